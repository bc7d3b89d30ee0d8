"""One door to all sources."""

from __future__ import annotations

from pathlib import Path

from rmeeto.data.digits import DigitSource
from rmeeto.data.folder import holds_clips, open_clip_folder, open_folder
from rmeeto.data.lists import listed_splits, open_lists
from rmeeto.data.source import SPLITS, Source, Split
from rmeeto.data.timm_source import is_timm_address, open_timm
from rmeeto.errors import UnknownName
from rmeeto.files.paths import given_path


def open_data(source: str | Path, split: Split) -> Source:
    """Open the images or clips of one split.

    source: a folder with ``train/`` and ``val/`` and a folder per class in each (for ``val`` also a folder that itself
    holds the class folders); a folder with lists of clips, ``train.csv`` and ``val.csv``, or ``FOLDER:PREFIX`` where
    their paths begin elsewhere; a timm dataset string such as ``torch/cifar10``, ``torch/cifar10:FOLDER`` or
    ``hfds/owner/name``; or ``digits``, the handwritten digits that come with scikit-learn.

    Raises:
        DataError: the source is missing, empty, has no class folders, or has wrong lines in its lists.

    >>> open_data("digits", "val").labels[:3]
    (0, 0, 0)
    """
    if split not in SPLITS:
        raise UnknownName("split", split, SPLITS)
    address = str(source)
    if not given_path(address, f"open {address}").exists():  # a folder may be called "digits" as well
        if address == "digits":
            return DigitSource(split)
        if is_timm_address(address):
            return open_timm(address, split)
    if listed_splits(address):
        return open_lists(address, split)
    return open_clip_folder(address, split) if holds_clips(address, split) else open_folder(address, split)


def splits_of(source: str | Path) -> tuple[Split, ...]:
    """The splits that a source has: a folder of class folders or of one list has only one."""
    root = given_path(source, f"open {source}")
    if listed := listed_splits(str(source)):
        return listed
    if not root.is_dir():
        return SPLITS
    return tuple(split for split in SPLITS if (root / split).is_dir()) or ("val",)
