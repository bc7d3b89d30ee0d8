"""Estimators that train a critic: MINE, InfoNCE and SMILE.

All three divide the images into three parts: from 60 % the critic learns, 20 % decide when it stops, and the figure
comes from the last 20 %, which it has never seen. What a critic has learnt by heart therefore counts for nothing.
The price is a common bias: a critic that has too few samples for its task finds too little. In particular a linear
relation of correlation ρ between signals of d columns is hard to tell from chance among n samples if ρ² is below d / n.
Values farther than 10 standard deviations from the mean are cut there, which can only lose information.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from rmeeto.analysis.estimators.bounds import (
    Scores,
    clipped,
    contrast,
    donsker_varadhan,
    jensen_shannon,
    log_mean_exp,
)
from rmeeto.analysis.estimators.critic import MOST_AT_ONCE, Measure, Training
from rmeeto.analysis.estimators.samples import Samples, scaled
from rmeeto.checks import number
from rmeeto.runtime.randomness import seed_of, seeded

SHARES = (0.6, 0.2, 0.2)  # to learn from, to stop by, to report


@dataclass(frozen=True, kw_only=True)
class CriticEstimator:
    """What the three share. Each says what the critic's training minimises, what stops it, and what is reported."""

    training: Training = field(default_factory=Training)

    name: ClassVar[str]

    def __call__(self, samples: Samples, seed: int) -> float:
        """I(X; Y) in nats. The seed decides the parts, the first weights and the batches."""
        learn, check, report = (_single(part) for part in scaled(samples.parts(SHARES, seed)))
        with torch.inference_mode(False), torch.enable_grad(), seeded(seed_of(seed, self.name)):
            critic = self.training.critic(learn, check, self.loss(), self.objective)
        return critic.judged(report, self.reported)

    def most(self, samples: Samples) -> float | None:
        """The largest figure that it can give for so many samples; None if there is no such limit."""
        return None

    @abstractmethod
    def loss(self) -> Measure:
        """What training minimises; a new one for each training, because it may remember."""

    @abstractmethod
    def objective(self, scores: Scores) -> Tensor:
        """What is largest for the best critic."""

    def reported(self, scores: Scores) -> Tensor:
        """The figure, in nats."""
        return self.objective(scores)


def _single(part: Samples) -> Samples:
    return Samples(part.x.float(), part.y.float(), part.image)


@dataclass(frozen=True, kw_only=True)
class MINE(CriticEstimator):
    """Mutual Information Neural Estimation (Belghazi et al., ICML 2018): the Donsker-Varadhan bound.

    The gradient of log E[exp T] is divided by a moving average of E[exp T] over the steps, as in section 3.2 there,
    and the critic is as small as theirs; but all chance pairs of a batch are used, not one for each sample.

    Bias: downwards where the critic lacks samples or steps. Upwards and with a large variance where I is large: the
    mean of exp T is then decided by rare pairs that a sample lacks. No bound of this kind can be trusted above the log
    of the number of samples (McAllester and Stratos, "Formal Limitations on the Measurement of Mutual Information",
    AISTATS 2020).

    average: weight of the present step in the moving average, above 0, at most 1.
    """

    average: float = 0.1

    name: ClassVar[str] = "mine"

    def __post_init__(self) -> None:
        number("train MINE", "average", self.average, least=1e-6, most=1.0)

    def loss(self) -> Measure:
        """The negative bound, with the moving average in its gradient."""
        return moving_average_loss(self.average)

    def objective(self, scores: Scores) -> Tensor:
        """The Donsker-Varadhan bound."""
        return donsker_varadhan(scores)


def moving_average_loss(weight: float) -> Callable[[Scores], Tensor]:
    """A loss with the gradient of MINE: E[T] - E[exp T] / c, where c is the moving average of E[exp T], no gradient."""
    average: Tensor | None = None

    def loss(scores: Scores) -> Tensor:
        nonlocal average
        now = log_mean_exp(*scores)
        fixed = now.detach()
        average = (
            fixed
            if average is None or weight == 1.0
            else torch.logaddexp(average + math.log1p(-weight), fixed + math.log(weight))
        )
        return torch.exp(now - average) - scores.matched.mean()

    return loss


@dataclass(frozen=True, kw_only=True)
class InfoNCE(CriticEstimator):
    """The contrastive bound: how surely a sample's match is found among many candidates.

    Van den Oord, Li and Vinyals, "Representation Learning with Contrastive Predictive Coding" (2018); as a bound of I,
    Poole et al., "On Variational Bounds of Mutual Information" (ICML 2019).

    Bias: downwards only, apart from noise. It cannot exceed log n, where n is the number of held-out samples among
    which a match is sought, a fifth of all and at most 2,048: so 7.6 nats at most, and it flattens well below. Of the
    three it has the smallest variance.
    """

    name: ClassVar[str] = "infonce"

    def most(self, samples: Samples) -> float | None:
        """log of the number of candidates."""
        return math.log(min(MOST_AT_ONCE, max(1, round(SHARES[-1] * samples.count))))

    def loss(self) -> Measure:
        """The negative bound."""
        return lambda scores: -contrast(scores)

    def objective(self, scores: Scores) -> Tensor:
        """The contrastive bound."""
        return contrast(scores)


@dataclass(frozen=True, kw_only=True)
class SMILE(CriticEstimator):
    """The clipped estimator: Donsker and Varadhan's expression, with its rare and large terms cut off.

    Song and Ermon, "Understanding the Limitations of Variational Mutual Information Estimators" (ICLR 2020). The
    critic learns log densities' ratios by the Jensen-Shannon bound, whose gradient is quiet; the figure is the
    Donsker-Varadhan expression with exp T kept within exp(±clip).

    Bias: both ways. It is no bound: clipping trades variance for a bias that grows with I and shrinks with the clip,
    and a critic whose scores are too large gives too large a figure.

    clip: the τ of the paper, which uses 1, 5 and 10.
    """

    clip: float = 5.0

    name: ClassVar[str] = "smile"

    def __post_init__(self) -> None:
        number("clip SMILE", "clip", self.clip, least=0.0, most=80.0, open_ends=True)

    def loss(self) -> Measure:
        """The negative Jensen-Shannon bound."""
        return lambda scores: -jensen_shannon(scores)

    def objective(self, scores: Scores) -> Tensor:
        """The Jensen-Shannon bound: the figure itself is largest for a critic that exaggerates."""
        return jensen_shannon(scores)

    def reported(self, scores: Scores) -> Tensor:
        """The clipped expression."""
        return clipped(scores, self.clip)
