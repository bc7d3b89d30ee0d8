"""Cells of ``nats``: mutual information of what goes into a model's middle block and what comes out (Fig. 2 iii)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from rmeeto.analysis.estimators import ESTIMATORS, Estimator, Training, samples
from rmeeto.analysis.estimators.neural import CriticEstimator
from rmeeto.analysis.gaussians import gaussian_pair
from rmeeto.analysis.signals import block_signals, middle_block
from rmeeto.data import Source
from rmeeto.errors import DataError, UnknownName
from rmeeto.experiments.inputs import inputs
from rmeeto.experiments.scale import Estimating
from rmeeto.models.reducible import ReducibleModel
from rmeeto.report.words import plural
from rmeeto.runtime.randomness import seed_of, seeded


@dataclass(frozen=True)
class Nats:
    """What every estimator gives for one model under one reduction.

    block: whose signals were taken, counted from 0. columns: of each signal. samples: of each draw.
    estimates: by estimator, one figure for each draw of images. gaussians: by estimator, one figure for each of the
    ``truths``, the mutual information of Gaussians with as many samples and columns.
    """

    block: int
    columns: int
    samples: int
    estimates: Mapping[str, tuple[float, ...]]
    truths: tuple[float, ...]
    gaussians: Mapping[str, tuple[float, ...]]

    def of(self, estimator: str) -> float:
        """An estimator's mean over the draws."""
        return fmean(self.estimates[estimator])

    @staticmethod
    def read(content: dict[str, Any]) -> Nats:
        """From a cell's file.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: it is damaged.
        """
        estimates, gaussians = (
            {name: tuple(map(number, values)) for name, values in content[part].items()}
            for part in ("estimates", "gaussians")
        )
        truths = tuple(map(number, content["truths"]))
        block, columns, count = (int(content[name]) for name in ("block", "columns", "samples"))
        if not estimates or not all(estimates.values()) or estimates.keys() != gaussians.keys():
            raise ValueError("it does not have the estimates of each estimator")
        if {len(values) for values in gaussians.values()} != {len(truths)}:
            raise ValueError("it does not have one figure for each of the Gaussians")
        return Nats(block, columns, count, estimates, truths, gaussians)


def number(value: Any) -> float:
    """A finite number.

    Raises:
        ValueError: something else.
    """
    if not isinstance(value, float | int) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no number of nats")
    return float(value)


def estimate(model: ReducibleModel, source: Source, sizes: Estimating, seed: int, workers: int = 0) -> Nats:
    """Estimate I(X; Y) at the middle block of a model under its reduction.

    The seed decides the images, the tokens that are drawn from them, and the estimators' parts, first weights and
    batches. So two models with the same seed are compared on the same images, and no two seeds have an image in common.

    Raises:
        DataError: too few images for this seed, or one that cannot be read. UnknownName: no such estimator.
    """
    chosen = estimators(sizes)
    block, device = middle_block(model), next(model.parameters()).device
    found: dict[str, list[float]] = {name: [] for name in chosen}
    for draw, places in enumerate(draws(len(source.labels), sizes, seed, source.address)):
        images = inputs(model, source, places, workers).to(device)
        own = seed_of(seed, "nats", draw)
        with seeded(own):  # some reductions draw
            seen = block_signals(model.eval(), images, block, tokens_per_image=sizes.tokens, seed=own)
        pairs = samples(seen.x, seen.y, seen.image)
        for name, estimator in chosen.items():
            found[name].append(estimator(pairs, own))
    columns = pairs.x.shape[1]
    return Nats(
        block=block,
        columns=columns,
        samples=pairs.count,
        estimates={name: tuple(values) for name, values in found.items()},
        truths=sizes.truths,
        gaussians=of_gaussians(chosen, sizes, columns, pairs.count, seed),
    )


def estimators(sizes: Estimating) -> dict[str, Estimator]:
    """The estimators of a scale by name, those with a critic with the scale's steps.

    Raises:
        UnknownName: there is none of that name.
    """
    found: dict[str, Estimator] = {}
    for name in sizes.estimators:
        if name not in ESTIMATORS:
            raise UnknownName("estimator", name, ESTIMATORS)
        kind = ESTIMATORS[name]
        found[name] = kind(training=Training(steps=sizes.steps)) if issubclass(kind, CriticEstimator) else kind()
    return found


def draws(images: int, sizes: Estimating, seed: int, address: str) -> list[list[int]]:
    """The places of each draw's images: no image is in two draws, of this seed or another.

    Raises:
        DataError: there are too few.
    """
    count = sizes.images * sizes.draws
    first, end = seed * count, (seed + 1) * count
    if images < end:
        raise DataError(
            f"estimate mutual information on {address}",
            given=f"{images:,} validation images",
            why=f"{plural(seed + 1, 'repetition')} of {count:,} images, none of them used twice, take {end:,}",
            fix="give all of the data set, or ask for fewer --seeds",
        )
    order: Tensor = torch.randperm(images, generator=torch.Generator().manual_seed(seed_of("images of nats", images)))
    return [places.tolist() for places in order[first:end].split(sizes.images)]  # type: ignore[no-untyped-call]


def of_gaussians(
    chosen: Mapping[str, Estimator], sizes: Estimating, columns: int, count: int, seed: int
) -> dict[str, tuple[float, ...]]:
    """What the estimators give for Gaussians of known mutual information, as many samples of as many columns."""
    shared = min(sizes.shared, columns)
    pairs = [samples(*gaussian_pair(count, columns, truth, shared=shared, seed=seed)) for truth in sizes.truths]
    return {name: tuple(estimator(pair, seed) for pair in pairs) for name, estimator in chosen.items()}
