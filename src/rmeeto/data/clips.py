"""Labelled clips that can be decoded in any order, and a folder of clips per class."""

from __future__ import annotations

from dataclasses import dataclass

from rmeeto.data.folder import Files, list_folder
from rmeeto.data.media import CLIPS
from rmeeto.data.source import Split
from rmeeto.data.video import TIMEOUT_SECONDS, Frames, Pick, read_frames, require_av


@dataclass(frozen=True)
class ClipFiles(Files):
    """The clips of one split. timeout_seconds: after which a clip counts as unreadable."""

    timeout_seconds: float = TIMEOUT_SECONDS

    def read(self, index: int, pick: Pick) -> Frames:
        """Decode the frames whose places ``pick`` chooses, given how many there are."""
        return read_frames(self.paths[index], pick, timeout_seconds=self.timeout_seconds)


def open_clip_folder(address: str, split: Split) -> ClipFiles:
    """List the clips of one split, laid out as image folders are.

    Raises:
        DataError: what :func:`rmeeto.data.folder.list_folder` raises, or PyAV is missing.
    """
    require_av()
    return ClipFiles(address, split, *list_folder(address, split, CLIPS))
