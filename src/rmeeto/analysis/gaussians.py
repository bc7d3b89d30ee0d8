"""Gaussians whose mutual information is known, and how far each estimator is from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor

from rmeeto.analysis.estimators import ESTIMATORS, Estimate, Estimator, as_estimators, samples
from rmeeto.checks import number, whole_number
from rmeeto.runtime.randomness import seed_of


def gaussian_pair(count: int, dim: int, nats: float, *, shared: int, seed: int) -> tuple[Tensor, Tensor]:
    """Two normal signals of known mutual information, ``(n, d)`` each.

    ``shared`` directions of X are each correlated with one direction of Y, all equally, and nothing else is. A pair of
    correlation ρ has -½ log(1 - ρ²) nats, so ρ² = 1 - exp(-2 I / shared). Both signals are then turned at random,
    which changes no information: no column of X belongs to a column of Y.
    """
    generator = torch.Generator().manual_seed(seed_of(seed, "gaussians"))
    x, noise = torch.randn(2, count, dim, generator=generator).unbind()
    rho = math.sqrt(-math.expm1(-2 * nats / shared))
    y = noise.clone()
    y[:, :shared] = rho * x[:, :shared] + math.sqrt(1 - rho * rho) * noise[:, :shared]
    turns = torch.randn(2, dim, dim, generator=generator)
    turn_x, turn_y = torch.linalg.qr(turns)[0].unbind()
    return x @ turn_x, y @ turn_y


@dataclass(frozen=True)
class Bias:
    """What an estimator gives for Gaussians of known mutual information.

    dim: columns of each signal. shared: directions that carry the information. truth: nats. found: the estimate, with
    its interval over seeds, each with samples of its own. bias: the estimate minus the truth, in nats.
    """

    dim: int
    shared: int
    truth: float
    found: Estimate

    @property
    def bias(self) -> float:
        """The estimate minus the truth, in nats."""
        return self.found.nats - self.truth

    def as_json(self) -> dict[str, Any]:
        """Plain values, for ``json.dumps``."""
        return {**asdict(self), "found": self.found.as_json(), "bias": self.bias}


def bias_table(
    estimators: Sequence[str | Estimator] = tuple(ESTIMATORS),
    *,
    dims: Sequence[int] = (64, 96, 192),
    nats: Sequence[float] = (0.5, 1.0, 2.0, 4.0, 8.0),
    shared: Sequence[int] = (8,),
    count: int = 4000,
    seeds: int = 3,
) -> list[Bias]:
    """Show every estimator Gaussians of known mutual information, at every combination of these sizes.

    A figure of a network's signals is worth no more than what stands here for as many samples of as many dimensions.

    shared: directions that carry the information; more than a signal's columns are cut down to them. count: samples.
    One of the three dims takes a minute or two on one core, nearly all of it for the estimators with a critic.

    Raises:
        ConfigError: impossible sizes, or fewer than 2 seeds.
        UnknownName: there is no such estimator.

    >>> print(as_text(bias_table(["infonce", "ksg"], dims=[64], nats=[2.0])))
    """
    asked = "show estimators Gaussians of known mutual information"
    for name, sizes in (("dims", dims), ("shared", shared)):
        for size in sizes:
            whole_number(asked, name, size)
    for truth in nats:
        number(asked, "nats", truth, least=0.0)
    whole_number(asked, "seeds", seeds, least=2)
    chosen = as_estimators(estimators).values()
    table = []
    for dim, directions, truth in product(dims, shared, nats):
        directions = min(directions, dim)
        drawn = [samples(*gaussian_pair(count, dim, truth, shared=directions, seed=seed)) for seed in range(seeds)]
        for estimator in chosen:
            values = [estimator(pairs, seed) for seed, pairs in enumerate(drawn)]
            found = Estimate.of(estimator.name, values, count, estimator.most(drawn[0]))
            table.append(Bias(dim, directions, truth, found))
    return table


def as_text(table: Sequence[Bias]) -> str:
    """The table for people: one line per setting, one column per estimator, mean ± half of the interval."""
    names = [*dict.fromkeys(row.found.estimator for row in table)]
    lines = [f"{'dim':>4} {'shared':>6} {'truth':>6}" + "".join(f"{name:>16}" for name in names)]
    for setting in dict.fromkeys((row.dim, row.shared, row.truth) for row in table):
        found = {row.found.estimator: row.found for row in table if (row.dim, row.shared, row.truth) == setting}
        cells = (f"{_cell(found[name]):>16}" for name in names)
        lines.append(f"{setting[0]:>4} {setting[1]:>6} {setting[2]:>6.2f}" + "".join(cells))
    return "\n".join(lines)


def _cell(found: Estimate) -> str:
    reach = "" if found.high is None else f" ± {found.high - found.nats:.2f}"
    return f"{found.nats:.2f}{reach}"
