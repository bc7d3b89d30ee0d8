"""One door to all sources."""

from __future__ import annotations

from pathlib import Path

from rmeeto.data.digits import DigitSource
from rmeeto.data.folder import open_folder
from rmeeto.data.source import Source, Split
from rmeeto.data.timm_source import is_timm_address, open_timm
from rmeeto.errors import UnknownName


def open_data(source: str | Path, split: Split) -> Source:
    """Open the images of one split.

    source: an image folder (``train/`` and ``val/`` with a folder per class each; for ``val`` also a folder that
    itself holds the class folders), a timm dataset string such as ``torch/cifar10``, ``torch/cifar10:FOLDER`` or
    ``hfds/owner/name``, or ``digits``, the handwritten digits that come with scikit-learn.

    Raises:
        DataError: the source is missing, empty, or has no class folders.

    >>> open_data("digits", "val").labels[:3]
    (0, 0, 0)
    """
    if split not in ("train", "val"):
        raise UnknownName("split", split, ("train", "val"))
    address = str(source)
    if Path(address).expanduser().exists():  # a folder that happens to be called "digits" is still a folder
        return open_folder(address, split)
    if address == "digits":
        return DigitSource(split)
    if is_timm_address(address):
        return open_timm(address, split)
    return open_folder(address, split)
