"""A few directions of two signals, found on one part of the samples, for estimators that need few dimensions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from rmeeto.analysis.estimators.samples import Samples

if TYPE_CHECKING:
    from jaxtyping import Float

Projection = Literal["canonical", "principal", "random"]
RIDGE = 0.1  # of the mean variance, added to every variance: more columns than samples do no harm


def canonical(samples: Samples, dimensions: int, seed: int) -> tuple[Tensor, Tensor]:
    """The directions whose projections are correlated most: canonical correlations (Hotelling 1936), with a ridge.

    The relations that are found are linear ones. Returns ``(d, m)`` for X and ``(e, m)`` for Y.
    """
    x, y = samples.x - samples.x.mean(0), samples.y - samples.y.mean(0)
    of_x, of_y = _inverse_root(x), _inverse_root(y)
    left, _, right = torch.linalg.svd(of_x @ (x.mT @ y / len(x)) @ of_y, full_matrices=False)
    return of_x @ left[:, :dimensions], of_y @ right.mT[:, :dimensions]


def principal(samples: Samples, dimensions: int, seed: int) -> tuple[Tensor, Tensor]:
    """The directions in which X and Y vary most, each by itself. Returns ``(d, m)`` and ``(e, m)``."""
    of_x, of_y = (torch.linalg.eigh(covariance(z))[1].flip(1)[:, :dimensions] for z in (samples.x, samples.y))
    return of_x, of_y


def random(samples: Samples, dimensions: int, seed: int) -> tuple[Tensor, Tensor]:
    """Orthonormal directions at random. Returns ``(d, m)`` and ``(e, m)``."""
    generator = torch.Generator().manual_seed(seed)
    drawn = (torch.randn(z.shape[1], dimensions, generator=generator, dtype=z.dtype) for z in (samples.x, samples.y))
    of_x, of_y = (torch.linalg.qr(directions)[0].to(samples.x.device) for directions in drawn)
    return of_x, of_y


PROJECTIONS: Mapping[Projection, Callable[[Samples, int, int], tuple[Tensor, Tensor]]] = {
    "canonical": canonical,
    "principal": principal,
    "random": random,
}


def covariance(signal: Float[Tensor, "n d"]) -> Float[Tensor, "d d"]:
    """Of the columns of a signal, also of a single one."""
    centred = signal - signal.mean(0)
    return centred.mT @ centred / len(signal)


def _inverse_root(signal: Float[Tensor, "n d"]) -> Float[Tensor, "d d"]:
    """C^(-1/2) of the covariance C with its ridge."""
    values, vectors = torch.linalg.eigh(covariance(signal))
    root: Tensor = vectors / (values.clamp(min=0) + RIDGE * values.mean()).sqrt()
    inverse: Tensor = root @ vectors.mT
    return inverse
