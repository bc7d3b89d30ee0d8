"""A contrast: one number per image or per seed, whose mean a claim is about."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rmeeto.analysis.mean import BootstrapMean, StudentMean
from rmeeto.checks import number
from rmeeto.errors import ConfigError

Unit = Literal["image", "seed"]


@dataclass(frozen=True, eq=False)
class Contrast:
    """One number per unit, in points (percentage points of accuracy). Made by the functions below.

    unit: what was drawn at random. ``image``: the weights are fixed, and the mean is about all images of the kind that
        was drawn. ``seed``: the validation images are fixed, and so is what the seed does not change, such as the
        network that re-training starts from; the mean is about all trainings of the kind. Neither says anything about
        the other: a difference may be certain for these weights, and gone with the next seed.
    values: independent draws. Frames of one video, or the rounds of one training, are not.
    largest: the largest absolute value that one image can have, in points; unused for seeds.
    """

    unit: Unit
    values: NDArray[np.float64]
    largest: float = 100.0

    @property
    def n(self) -> int:
        """How many images or seeds."""
        return len(self.values)

    @cached_property
    def mean(self) -> BootstrapMean | StudentMean:
        """The mean in points with what is known of its error: by bootstrap over images, by Student's t over seeds."""
        if self.unit == "image":
            return BootstrapMean.of(self.values, self.largest)
        return StudentMean.of(self.values)


def by_image(left: ArrayLike, right: ArrayLike) -> Contrast:
    """Left minus right for two networks on the same images, in the same order.

    left, right: whether each image was classified correctly, as booleans or as 0 and 1.

    Raises:
        ConfigError: something else, no images, or lists of two lengths.
    """
    asked = "compare two networks image by image"
    return image_contrast(correctness(asked, "left", left) - _like(asked, left, correctness(asked, "right", right)))


def by_seed(left: ArrayLike, right: ArrayLike) -> Contrast:
    """Left minus right for two ways of training, seed by seed.

    left, right: accuracies in per cent, from the same seeds in the same order.

    Raises:
        ConfigError: numbers outside of 0 to 100, no seeds, or lists of two lengths.
    """
    asked = "compare two ways of training seed by seed"
    return seed_contrast(percent(asked, "left", left) - _like(asked, left, percent(asked, "right", right)))


def image_contrast(values: ArrayLike, *, largest: float | None = None) -> Contrast:
    """A contrast of correctness given as one number per image, such as (a - b) - (c - d) of four networks.

    values: in units of one image, so that 1 is an image more that is correct.
    largest: the largest absolute value that an image can have, 2 for the example; by default the largest of 1 and of
        what occurs.

    Raises:
        ConfigError: no numbers, not finite, or above ``largest``.
    """
    asked = "take a contrast by image"
    found = vector(asked, "values", values)
    most = float(np.abs(found).max())
    bound = max(1.0, most) if largest is None else number(asked, "largest", largest, least=max(most, 1e-6))
    return Contrast("image", _sealed(100 * found), 100 * bound)


def seed_contrast(values: ArrayLike) -> Contrast:
    """A contrast of accuracies given as one number per seed, in points, such as (a - b) - (c - d) of four networks.

    Raises:
        ConfigError: no numbers, or not finite.
    """
    return Contrast("seed", _sealed(vector("take a contrast by seed", "values", values)))


def vector(asked: str, name: str, values: ArrayLike) -> NDArray[np.float64]:
    """A list of finite numbers as an array of its own.

    Raises:
        ConfigError: something else, or an empty list.
    """
    try:
        found = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise ConfigError(asked, given=f"{name}: {type(values).__name__}", why="it is no list of numbers") from None
    if found.ndim != 1 or len(found) == 0:
        raise ConfigError(
            asked, given=f"{name} of shape {found.shape}", why="it is one number per image or seed, and at least one"
        )
    if not np.isfinite(found).all():
        place = int(np.argmin(np.isfinite(found)))
        raise ConfigError(asked, given=f"{name}[{place}] is {found[place]}", why="only finite numbers can be compared")
    return found


def correctness(asked: str, name: str, values: ArrayLike) -> NDArray[np.float64]:
    """Whether each image was classified correctly, as 0.0 and 1.0; or the share of several networks that did so.

    Raises:
        ConfigError: other numbers.
    """
    found = vector(asked, name, values)
    outside = found[(found < 0) | (found > 1)]
    if len(outside):
        raise ConfigError(
            asked,
            given=f"{name} has {outside[0]:g}",
            why="an image is correct, 1, or not, 0, or it is the share of several networks that are correct",
        )
    return found


def percent(asked: str, name: str, values: ArrayLike) -> NDArray[np.float64]:
    """Accuracies in per cent.

    Raises:
        ConfigError: numbers outside of 0 to 100.
    """
    found = vector(asked, name, values)
    outside = found[(found < 0) | (found > 100)]
    if len(outside):
        raise ConfigError(asked, given=f"{name} has {outside[0]:g}", why="an accuracy is between 0 and 100 per cent")
    return found


def _like(asked: str, left: ArrayLike, right: NDArray[np.float64]) -> NDArray[np.float64]:
    length = len(np.asarray(left))
    if length != len(right):
        raise ConfigError(
            asked,
            given=f"{length} on the left, {len(right)} on the right",
            why="each number has its partner from the same image or seed",
        )
    return right


def _sealed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    values.flags.writeable = False
    return values
