"""The nearest-neighbour estimate of Kraskov, Stögbauer and Grassberger, "Estimating mutual information" (2004)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from rmeeto.analysis.estimators.projections import PROJECTIONS, Projection
from rmeeto.analysis.estimators.samples import Samples, scaled
from rmeeto.checks import whole_number
from rmeeto.errors import UnknownName, UnsupportedInput
from rmeeto.runtime.randomness import seed_of

if TYPE_CHECKING:
    from jaxtyping import Float

CELLS = 1 << 22  # of a table of distances that exists at once
SHARES = (0.5, 0.5)  # to find directions in, to report


@dataclass(frozen=True, kw_only=True)
class KSG:
    """Nearest neighbours in the maximum norm (Kraskov, Stögbauer and Grassberger 2004, their first estimator).

    Neighbours mean something in few dimensions only. So a signal of more than ``dimensions`` columns is projected on
    so many directions, which are found in one half of the images; the other half gives the figure. Without a
    projection all samples do.

    Of several samples of an image one is used at a time, because they are not independent: the number of images counts.

    Bias: a projection loses information, so the figure estimates less than I(X; Y): relations in other directions do
    not count, and with ``canonical`` directions relations that are not linear are not looked for. In the projected
    space it is nearly free of bias at small I, and too small where I is large or the dependence nearly deterministic
    (Gao, Ver Steeg and Galstyan, "Efficient Estimation of Mutual Information for Strongly Dependent Variables",
    AISTATS 2015).

    neighbours: the k of the paper, which advises 2 to 4. dimensions: of each signal after the projection.
    projection: ``canonical``, ``principal`` or ``random`` directions.
    """

    neighbours: int = 4
    dimensions: int = 3
    projection: Projection = "canonical"

    name: ClassVar[str] = "ksg"

    def __post_init__(self) -> None:
        whole_number("look for nearest neighbours", "neighbours", self.neighbours)
        whole_number("project signals for KSG", "dimensions", self.dimensions)
        if self.projection not in PROJECTIONS:
            raise UnknownName("projection", self.projection, PROJECTIONS)

    def __call__(self, samples: Samples, seed: int) -> float:
        """I of the projections in nats. The seed decides the halves and random directions; without them, nothing."""
        if max(samples.x.shape[1], samples.y.shape[1]) <= self.dimensions:
            (all_of_it,) = scaled([samples])
            return nearest_neighbours(all_of_it, self.neighbours)
        find, report = scaled(samples.parts(SHARES, seed))
        of_x, of_y = PROJECTIONS[self.projection](find, self.dimensions, seed_of(seed, self.name))
        return nearest_neighbours(Samples(report.x @ of_x, report.y @ of_y, report.image), self.neighbours)

    def most(self, samples: Samples) -> float | None:
        """None: what limits it is the number of samples near each other, not one number."""
        return None


def nearest_neighbours(samples: Samples, neighbours: int) -> float:
    """The estimate in nats, of signals of few dimensions.

    For each sample, ε is its distance to its k-th neighbour, and n_x and n_y count the samples that are nearer than ε
    in X and in Y. The mean of ψ(k) + ψ(n) - ψ(n_x + 1) - ψ(n_y + 1) over the n samples is the estimate.

    Exact ties (repeated samples, whole numbers) break the rule that exactly k samples lie within ε. Where they do, the
    samples at distance ε count too, in all three places: ψ(k') + ψ(n) - ψ(n_x') - ψ(n_y'). With samples of a discrete
    law that tends to the sum over its cells, as in Gao et al., "Estimating Mutual Information for Discrete-Continuous
    Mixtures" (NeurIPS 2017).

    The samples must be independent: samples of one image lie in clumps, and would be taken for a dependence. So there
    are as many estimates as the image with fewest samples has, each from one sample of every image; this is their mean.

    Raises:
        UnsupportedInput: not more than two images per neighbour.
    """
    _, counts = torch.unique(samples.image, return_counts=True)
    if len(counts) <= 2 * neighbours:
        raise UnsupportedInput(
            f"look for {neighbours} nearest neighbours",
            given=f"samples of {len(counts)} images",
            why="neighbours are sought in other images only, and half of them would be neighbours of every sample",
            fix="give more images, or ask for fewer neighbours",
        )
    first = counts.cumsum(0) - counts  # samples stand in the order of their images
    rounds = [_of_independent(samples.take(first + number), neighbours) for number in range(int(counts.min()))]
    return sum(rounds) / len(rounds)


def _of_independent(samples: Samples, neighbours: int) -> float:
    rows = torch.split(torch.arange(samples.count, device=samples.x.device), max(1, CELLS // samples.count))
    return float(torch.cat([_terms(samples, piece, neighbours) for piece in rows]).mean())


def _terms(samples: Samples, rows: Tensor, neighbours: int) -> Float[Tensor, " m"]:
    """What each of these samples adds to the mean."""
    itself = rows[:, None] == torch.arange(samples.count, device=rows.device)
    in_x, in_y = (
        torch.cdist(signal[rows], signal, p=torch.inf).masked_fill(itself, torch.inf)
        for signal in (samples.x, samples.y)
    )
    together = torch.maximum(in_x, in_y)
    reach = together.kthvalue(neighbours, dim=1, keepdim=True).values
    within = _count(together <= reach)
    tied = (within > neighbours) | (reach[:, 0] == 0)
    near = [torch.where(tied, _count(in_one <= reach), _count(in_one < reach) + 1) for in_one in (in_x, in_y)]
    every = torch.full_like(within, samples.count)
    return _psi(within) + _psi(every) - _psi(near[0]) - _psi(near[1])


def _count(cells: Tensor) -> Tensor:
    return cells.sum(1)


def _psi(count: Tensor) -> Tensor:
    value: Tensor = torch.special.digamma(count.double())
    return value
