"""Samples of two signals, and their parts: what one part has taught an estimator, another part must confirm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from rmeeto.errors import UnsupportedInput
from rmeeto.runtime.randomness import seed_of

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int64

LEAST_SAMPLES = 50
LEAST_IMAGES = 10
ASKED = "estimate mutual information"


@dataclass(frozen=True)
class Samples:
    """Pairs of vectors, one pair per row, and the image that each pair comes from.

    Samples of one image are not independent of each other. So images are never divided between two parts, and no
    estimator takes two samples of one image for a pair that met by chance.

    x: ``(n, d)``. y: ``(n, e)``. image: ``(n,)`` int64, a number per image.
    """

    x: Float[Tensor, "n d"]
    y: Float[Tensor, "n e"]
    image: Int64[Tensor, " n"]

    @property
    def count(self) -> int:
        """How many pairs."""
        return len(self.x)

    @property
    def images(self) -> Tensor:
        """The numbers of the images, each once, ascending."""
        numbers: Tensor = torch.unique(self.image)
        return numbers

    def take(self, rows: Tensor) -> Samples:
        """The pairs in these rows, which are numbers ``(m,)`` or marks ``(n,)`` bool."""
        return Samples(self.x[rows], self.y[rows], self.image[rows])

    def of_images(self, images: Tensor) -> Samples:
        """The pairs of these images, as they are ordered."""
        return self.take(torch.isin(self.image, images))

    def parts(self, shares: Sequence[float], seed: int) -> list[Samples]:
        """Divide the images at random into parts of these shares, which add up to 1; at least one image in each."""
        images = self.images
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed_of(seed, "parts")))
        ends = [round(share * len(images)) for share in accumulate(shares)]
        bounds = [max(end, number + 1) for number, end in enumerate(ends)]
        pieces = torch.tensor_split(images[order.to(images.device)], bounds[:-1])
        return [self.of_images(piece) for piece in pieces]


class Scale(NamedTuple):
    """Which columns of a signal vary, and what makes their mean 0 and their standard deviation 1."""

    varies: Bool[Tensor, " d"]
    mean: Float[Tensor, " d"]
    deviation: Float[Tensor, " d"]

    @staticmethod
    def of(name: str, signal: Tensor) -> Scale:
        """Measured on ``(n, d)``.

        Raises:
            UnsupportedInput: no column varies.
        """
        exact = signal.double()
        mean = exact.mean(0)
        largest = (exact - mean).abs().amax(0).clamp(min=torch.finfo(torch.float64).tiny)
        deviation = ((exact - mean) / largest).std(0) * largest  # no square overflows
        varies = deviation > 1e-6 * mean.abs()  # less is rounding
        if not varies.any():
            raise UnsupportedInput(
                ASKED,
                given=f"{name} of shape {tuple(signal.shape)}",
                why=f"{name} is constant: all its samples are equal",
                fix="look at where the signal is taken; a constant shares no information with anything",
            )
        return Scale(varies, mean[varies], deviation[varies])

    def __call__(self, signal: Tensor) -> Tensor:
        """The varying columns of ``(n, d)``, in float64."""
        return (signal[:, self.varies].double() - self.mean) / self.deviation


def scaled(parts: Sequence[Samples]) -> list[Samples]:
    """The parts in float64, each column by the mean and deviation that it has in the first part."""
    of_x, of_y = Scale.of("x", parts[0].x), Scale.of("y", parts[0].y)
    return [Samples(of_x(part.x), of_y(part.y), part.image) for part in parts]


def samples(x: Tensor, y: Tensor, images: Tensor | None = None) -> Samples:
    """The samples ``x (n, d)`` and ``y (n, e)``, checked, and in the order of their images.

    images: ``(n,)`` whole numbers, the image that each sample comes from; None if all samples are independent.

    Raises:
        UnsupportedInput: other shapes, too few samples or images, values that are not finite, or a constant signal.
    """
    for name, signal in (("x", x), ("y", y)):
        if not isinstance(signal, Tensor) or signal.ndim != 2 or signal.shape[1] == 0 or signal.is_complex():
            raise _unfit(x, y, f"{name} must be a tensor of one row per sample, (n, d)")
    if len(x) != len(y):
        raise _unfit(x, y, f"x has {len(x):,} samples, y has {len(y):,}", "give both in the same order, row by row")
    if len(x) < LEAST_SAMPLES:
        raise _unfit(x, y, f"{len(x)} samples are too few: at least {LEAST_SAMPLES}, better thousands")
    if images is None:
        images = torch.arange(len(x), device=x.device)
    if images.shape != (len(x),) or images.is_floating_point() or images.is_complex():
        raise _unfit(x, y, f"images must be one whole number per sample, not {images.dtype} {tuple(images.shape)}")
    if (count := len(torch.unique(images))) < LEAST_IMAGES:
        raise _unfit(x, y, f"they come from {count} images, and at least {LEAST_IMAGES} must be divided into parts")
    image, order = images.detach().clone().to(x.device, torch.int64).sort(stable=True)
    found = Samples(plain(x)[order], plain(y).to(x.device)[order], image)
    for name, signal in (("x", found.x), ("y", found.y)):
        if not signal.isfinite().all():
            raise _unfit(x, y, f"{name} contains NaN or infinity")
        Scale.of(name, signal)
    return found


def plain(signal: Tensor) -> Tensor:
    """A copy without history, in float32 at least, that gradients may be computed beside."""
    with torch.inference_mode(False):
        return signal.detach().to(torch.promote_types(signal.dtype, torch.float32)).clone()


def _unfit(x: object, y: object, why: str, fix: str | None = None) -> UnsupportedInput:
    shapes = [str(tuple(signal.shape)) if isinstance(signal, Tensor) else type(signal).__name__ for signal in (x, y)]
    return UnsupportedInput(ASKED, given=f"x {shapes[0]}, y {shapes[1]}", why=why, fix=fix)
