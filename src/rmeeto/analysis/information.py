"""I(X; Y) at the middle block of several networks, before and after a reduction (paper, Fig. 2 iii).

Estimators are biased, each in its own way, and by more than most differences. So a difference is reported only where
all estimators agree on its sign and every interval excludes zero; otherwise the conclusion is "undecided". What each
estimator can see at all stands in :func:`rmeeto.analysis.gaussians.bias_table`. Networks of different widths are
compared with more caution than one network with itself: the bias depends on the width.

This is the quantity of the figure. Theorem 1 itself is about another one, I(Y_{t:T}; X_t), and compares modules of
equal entropies, which trained networks are not; no figure made here confirms or refutes it.

Every seed has images of its own, the same for all networks and reductions. So the figures of two seeds are
independent, differences are paired, and the intervals cover the choice of images as well as training and parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import torch
from torch import Tensor

from rmeeto.analysis.estimators import ESTIMATORS, Estimate, Estimator, Samples, as_estimators, samples
from rmeeto.analysis.estimators.samples import LEAST_IMAGES
from rmeeto.analysis.signals import Reading, block_signals, check, middle_block
from rmeeto.checks import whole_number
from rmeeto.errors import ConfigError, UnsupportedInput
from rmeeto.models.reducible import ReducibleModel
from rmeeto.reduction import Reduction, as_reduction
from rmeeto.runtime.randomness import seed_of

Conclusion = Literal["more", "less", "undecided"]
CONCLUSIONS: dict[int, Conclusion] = {1: "more", -1: "less", 0: "undecided"}
ASKED = "estimate the information that blocks pass on"
WHOLE = "none"  # the line of no reduction


@dataclass(frozen=True)
class Setting:
    """Where signals were taken. reduction: its line; ``none`` for the whole model. block: counted from 0."""

    model: str
    reduction: str
    block: int

    def __str__(self) -> str:
        return f"{self.model}, {self.reduction}"


@dataclass(frozen=True)
class Measured:
    """I(X; Y) in one setting. columns: of X and Y. estimates: by the estimator's name."""

    setting: Setting
    columns: int
    estimates: Mapping[str, Estimate]

    def as_json(self) -> dict[str, Any]:
        """Plain values, for ``json.dumps``."""
        return {
            **vars(self.setting),
            "columns": self.columns,
            "estimates": {name: found.as_json() for name, found in self.estimates.items()},
        }


@dataclass(frozen=True)
class Difference:
    """I(X; Y) in one setting minus that in another, paired by seed, by each estimator."""

    of: Setting
    against: Setting
    estimates: Mapping[str, Estimate]

    @property
    def conclusion(self) -> Conclusion:
        """``more`` or ``less`` if all estimators' intervals lie on that side of zero, and otherwise ``undecided``."""
        signs = {found.sign for found in self.estimates.values()}
        return CONCLUSIONS[signs.pop()] if len(signs) == 1 else "undecided"

    def as_json(self) -> dict[str, Any]:
        """Plain values, for ``json.dumps``."""
        return {
            "of": vars(self.of),
            "against": vars(self.against),
            "estimates": {name: found.as_json() for name, found in self.estimates.items()},
            "conclusion": self.conclusion,
        }


@dataclass(frozen=True)
class InformationInBlocks:
    """All settings and the differences between them.

    differences: each reduction against the whole model, and each two whole models against each other. images: of each
    seed.
    """

    measured: tuple[Measured, ...]
    differences: tuple[Difference, ...]
    reading: str
    seeds: int
    images: int

    def as_json(self) -> dict[str, Any]:
        """Plain values, for ``json.dumps``."""
        return {
            "measured": [found.as_json() for found in self.measured],
            "differences": [found.as_json() for found in self.differences],
            "reading": self.reading,
            "seeds": self.seeds,
            "images": self.images,
        }

    def __str__(self) -> str:
        lines = [f"I(X; Y), {self.reading}, {self.seeds} seeds with {self.images} images each"]
        for found in self.measured:
            lines.append(f"{found.setting} (block {found.setting.block}, {found.columns} columns)")
            lines += [f"  {name:<8} {estimate}" for name, estimate in found.estimates.items()]
        for difference in self.differences:
            lines.append(f"{difference.of} against {difference.against}: {difference.conclusion}")
            lines += [f"  {name:<8} {estimate}" for name, estimate in difference.estimates.items()]
        return "\n".join(lines)


def information_in_blocks(
    models: Mapping[str, ReducibleModel],
    images: Tensor,
    reductions: Sequence[Reduction | str],
    *,
    estimators: Sequence[str | Estimator] = tuple(ESTIMATORS),
    seeds: int = 6,
    blocks: Mapping[str, int] | None = None,
    reading: Reading = "tokens",
    tokens_per_image: int = 4,
) -> InformationInBlocks:
    """Estimate I(X; Y) in a block of each model, without a reduction and under each, and compare.

    Args:
        models: by a name of your choice, in eval mode. Their own reductions are set aside, and put back afterwards.
        images: ``(n, c, h, w)``, for all models; divided evenly between the seeds.
        reductions: values or lines, the same for all models, such as ``["merge:ratio=0.31", "prune:ratio=0.31"]``.
        estimators: names, or values with options.
        seeds: at least 2. Differences are clear with six or more.
        blocks: by model, counted from 0; the paper's middle block for a model that is not named.
        reading: what one sample is: see :mod:`rmeeto.analysis.signals`.
        tokens_per_image: for the reading ``tokens``.

    Raises:
        ConfigError: no model, no estimator, too few seeds, an unknown model among the blocks, a block that does not
            exist, or a reduction that a model cannot have.
        UnsupportedInput: too few images for so many seeds, images of another size, or a constant signal.
        UnknownName: an estimator, reading or reduction that does not exist.
    """
    count = whole_number(ASKED, "seeds", seeds, least=2)
    chosen = as_estimators(estimators)
    lines = [None, *map(as_reduction, reductions)]
    if not models:
        raise ConfigError(ASKED, given="no model", why="at least one is needed")
    if strangers := sorted({*(blocks or {})} - {*models}):
        why = f"blocks names models that are not given: {', '.join(strangers)}"
        raise ConfigError(ASKED, given=f"models {', '.join(models)}", why=why)
    places = {name: _block(model, images, (blocks or {}).get(name), reading) for name, model in models.items()}
    shares = _shares(len(images), count)
    measured = []
    for name, model in models.items():
        for reduction in lines:
            with reduced(model, reduction):
                signals = block_signals(model, images, places[name], reading=reading, tokens_per_image=tokens_per_image)
            setting = Setting(name, WHOLE if reduction is None else str(reduction), places[name])
            measured.append(Measured(setting, signals.x.shape[1], _estimates(signals, chosen, shares)))
    differences = tuple(_difference(of, against) for of, against in _pairs(measured))
    return InformationInBlocks(tuple(measured), differences, reading, count, min(map(len, shares)))


@contextmanager
def reduced(model: ReducibleModel, reduction: Reduction | None) -> Iterator[None]:
    """Run a block of code with another reduction in the model, and put its own back."""
    own = model.reduction
    model.reduction = reduction
    try:
        yield
    finally:
        model.reduction = own


def _block(model: ReducibleModel, images: Tensor, block: int | None, reading: str) -> int:
    check(model, images, block or 0, reading)
    return middle_block(model) if block is None else block


def _shares(images: int, seeds: int) -> list[Tensor]:
    """Each seed's images, disjoint and of equal number."""
    size = images // seeds
    if size < LEAST_IMAGES:
        raise UnsupportedInput(
            ASKED,
            given=f"{images} images, {seeds} seeds",
            why=f"{images} images are {size} for each of {seeds} seeds, and at least {LEAST_IMAGES} are needed",
            fix="give more images, better thousands",
        )
    order = torch.randperm(images, generator=torch.Generator().manual_seed(seed_of("images", images)))
    return [order[seed * size : (seed + 1) * size] for seed in range(seeds)]


def _estimates(signals: Samples, estimators: Mapping[str, Estimator], shares: Sequence[Tensor]) -> dict[str, Estimate]:
    own = [signals.of_images(share) for share in shares]
    checked = [samples(part.x, part.y, part.image) for part in own]
    return {
        name: Estimate.of(
            name,
            [estimator(part, seed) for seed, part in enumerate(checked)],
            checked[0].count,
            estimator.most(checked[0]),
        )
        for name, estimator in estimators.items()
    }


def _pairs(measured: Sequence[Measured]) -> Iterator[tuple[Measured, Measured]]:
    whole = {found.setting.model: found for found in measured if found.setting.reduction == WHOLE}
    for found in measured:
        if found.setting.reduction != WHOLE:
            yield found, whole[found.setting.model]
    yield from combinations(whole.values(), 2)


def _difference(of: Measured, against: Measured) -> Difference:
    estimates = {}
    for name, found in of.estimates.items():
        values = [a - b for a, b in zip(found.values, against.estimates[name].values, strict=True)]
        estimates[name] = Estimate.of(name, values, found.samples)
    return Difference(of.setting, against.setting, estimates)
