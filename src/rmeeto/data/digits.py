"""The 1,797 handwritten digits that come with scikit-learn: real data that needs no download."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rmeeto.data.source import Split
from rmeeto.errors import DataError

TEST_IMAGES = 500
BRIGHTEST = 16


class DigitSource:
    """8×8 grey digits, 1,297 to train on and 500 to test on.

    Sorted by class, evenly spaced images are the test set: stratified, the same for ever, and no generator involved.
    """

    address = "digits"
    classes = tuple("0123456789")
    glyphs = True

    def __init__(self, split: Split) -> None:
        self.split: Split = split
        pixels, labels = _load()
        by_class = np.argsort(labels, kind="stable")
        test = ((np.arange(TEST_IMAGES) + 0.5) * len(labels) / TEST_IMAGES).astype(int)
        chosen = by_class[test] if split == "val" else np.delete(by_class, test)
        self.pixels = pixels[chosen]
        self.labels = tuple(int(label) for label in labels[chosen])

    def read(self, index: int) -> Image.Image:
        """The digit, white on black, 8×8."""
        return Image.fromarray(self.pixels[index])

    def name(self, index: int) -> str:
        """Its number within the split."""
        return f"digits/{self.split}/{index}"


@cache
def _load() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataError(
            "use the digits",
            why="they come with scikit-learn, which is not installed",
            fix='pip install "rmeeto[demo]"',
        ) from error
    digits = load_digits()
    return np.rint(digits.images * (255 / BRIGHTEST)).astype(np.uint8), digits.target
