"""Labelled images: where they come from, how they are prepared, in which order they are drawn."""

from rmeeto.data.source import Source, Split, open_data

__all__ = ["Source", "Split", "open_data"]
