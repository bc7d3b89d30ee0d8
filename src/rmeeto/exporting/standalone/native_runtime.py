"""The end of ``run.py`` in a folder with the C library: its binding, and the command."""

from __future__ import annotations

from typing import Any

from rmeeto.exporting.standalone.prepare import HERE, answer, parser


def load() -> Any:
    """A function from a batch of inputs to logits, by the C library in this folder."""
    import rmeeto_native

    return rmeeto_native.load(HERE / "model.rmeeto")


def main() -> None:
    """The command."""
    answer(parser().parse_args(), load)


if __name__ == "__main__":
    main()
