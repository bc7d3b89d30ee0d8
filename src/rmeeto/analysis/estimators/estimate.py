"""What every estimator of mutual information is asked, and a figure with its interval over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from torch import Tensor

from rmeeto.analysis.estimators.neighbours import KSG
from rmeeto.analysis.estimators.neural import MINE, SMILE, InfoNCE
from rmeeto.analysis.estimators.samples import Samples, samples
from rmeeto.analysis.mean import StudentMean
from rmeeto.checks import whole_number
from rmeeto.errors import ConfigError, UnknownName

if TYPE_CHECKING:
    from jaxtyping import Float, Int64


class Estimator(Protocol):
    """A frozen value that estimates the mutual information of two signals; it draws by the seed and nothing else."""

    name: ClassVar[str]

    def __call__(self, samples: Samples, seed: int) -> float:
        """I(X; Y) in nats."""
        ...

    def most(self, samples: Samples) -> float | None:
        """The largest figure that it can give for so many samples; None if there is no such limit."""
        ...


ESTIMATORS: dict[str, type[Estimator]] = {kind.name: kind for kind in (MINE, InfoNCE, SMILE, KSG)}


@dataclass(frozen=True)
class Estimate:
    """A figure in nats, or a difference of two, and its 95 % t interval over seeds.

    estimator: its name. nats: the mean over the seeds. low, high: the interval's ends; None if the seeds all gave the
    same, which says nothing about the error. values: of each seed. samples: that a seed's figure was made from.
    most: what the estimator cannot exceed; None if it has no limit, or if this is a difference.
    """

    estimator: str
    nats: float
    low: float | None
    high: float | None
    values: tuple[float, ...]
    samples: int
    most: float | None = None

    @staticmethod
    def of(estimator: str, values: Sequence[float], samples: int, most: float | None = None) -> Estimate:
        """From the figures of the seeds."""
        mean = StudentMean.of(np.array(values, dtype=np.float64))
        low, high = (None, None) if mean.spread is None else mean.interval()
        return Estimate(estimator, fmean(values), low, high, tuple(values), samples, most)

    @property
    def sign(self) -> int:
        """1 or -1 if the whole interval is above or below zero, and otherwise 0."""
        if self.low is None or self.high is None:
            return 0
        return (self.low > 0) - (self.high < 0)

    def as_json(self) -> dict[str, Any]:
        """Plain values, for ``json.dumps``."""
        return {**asdict(self), "values": list(self.values)}

    def __str__(self) -> str:
        ends = "no interval" if self.low is None else f"{self.low:.2f} … {self.high:.2f}"
        return f"{self.nats:.2f} nats ({ends})"


def mutual_information(
    x: Float[Tensor, "n d"],
    y: Float[Tensor, "n e"],
    *,
    estimator: str | Estimator = "infonce",
    images: Int64[Tensor, " n"] | None = None,
    seeds: int = 5,
) -> Estimate:
    """Estimate I(X; Y) in nats from samples.

    The interval is over seeds, which decide how the images are divided into parts, the first weights and the batches.
    The images are the same for all seeds, so it says nothing about other images: for that, give each seed samples of
    its own, as :func:`rmeeto.analysis.information.information_in_blocks` does.

    Args:
        x: ``(n, d)``, one sample per row.
        y: ``(n, e)``, in the same order.
        estimator: ``mine``, ``infonce``, ``smile`` or ``ksg``, or one with options, such as ``SMILE(clip=10.0)``.
            Their docstrings say in which direction each is wrong.
        images: ``(n,)``, the image that each sample comes from; None if all samples are independent.
        seeds: at least 2.

    Raises:
        UnsupportedInput: other shapes, too few samples, values that are not finite, or a constant signal.
        UnknownName: there is no such estimator.
        ConfigError: fewer than 2 seeds.

    >>> x = torch.randn(2000, 1)
    >>> mutual_information(x, x + torch.randn(2000, 1), estimator="ksg").nats  # log(2) / 2 = 0.35
    0.34
    """
    found, measured = samples(x, y, images), as_estimator(estimator)
    count = whole_number("estimate mutual information", "seeds", seeds, least=2)
    values = [measured(found, seed) for seed in range(count)]
    return Estimate.of(measured.name, values, found.count, measured.most(found))


def as_estimator(value: str | Estimator) -> Estimator:
    """An estimator as it is, or with its usual options from its name.

    Raises:
        UnknownName: there is none of that name.
    """
    if not isinstance(value, str):
        return value
    if value not in ESTIMATORS:
        raise UnknownName("estimator", value, ESTIMATORS)
    return ESTIMATORS[value]()


def as_estimators(values: Sequence[str | Estimator]) -> dict[str, Estimator]:
    """One or more estimators by their names.

    Raises:
        UnknownName: there is none of that name.
        ConfigError: none is given, or two have one name.
    """
    chosen = [as_estimator(value) for value in values]
    found = {estimator.name: estimator for estimator in chosen}
    if not chosen or len(found) < len(chosen):
        raise ConfigError(
            "estimate mutual information by several estimators",
            given=", ".join(estimator.name for estimator in chosen) or "none",
            why="at least one is needed, and figures are told apart by their estimators' names",
            fix="give one estimator of each kind, such as mine, infonce, smile and ksg",
        )
    return found
