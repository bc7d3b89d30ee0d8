"""The network that scores pairs, how it learns, and how it is judged on samples that it has not seen."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from rmeeto.analysis.estimators.bounds import Scores
from rmeeto.analysis.estimators.samples import Samples
from rmeeto.checks import number, whole_number

if TYPE_CHECKING:
    from jaxtyping import Float

MOST_AT_ONCE = 2048  # samples whose pairs are all scored at once: 4 million pairs
LARGEST = 10.0  # standard deviations; a few channels of trained networks have outliers of hundreds
Measure = Callable[[Scores], Tensor]


class Side(nn.Module):
    """From a sample of one signal to its vector and its own score: a linear map and a network of one hidden layer."""

    def __init__(self, inputs: int, width: int, hidden: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, width)
        self.curved = nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, width + 1))

    def forward(self, signal: Float[Tensor, "m d"]) -> tuple[Float[Tensor, "m w"], Float[Tensor, " m"]]:
        """The vector and the score of each sample."""
        signal = signal.clamp(-LARGEST, LARGEST)
        curved = self.curved(signal)
        return self.linear(signal) + curved[:, :-1], curved[:, -1]


class Critic(nn.Module):
    """A score for each pair: T(x, y) = f(x)·g(y)/√w + a(x) + b(y), which starts at 0 for every pair.

    All m² pairs of m samples cost one matrix product.
    """

    def __init__(self, of_x: int, of_y: int, width: int, hidden: int) -> None:
        super().__init__()
        self.of_x, self.of_y = Side(of_x, width, hidden), Side(of_y, width, hidden)
        self.scale = 1 / math.sqrt(width)
        with torch.no_grad():
            for parameter in (*self.of_x.linear.parameters(), *self.of_x.curved[2].parameters()):
                parameter.zero_()
            for parameter in self.of_y.curved[2].parameters():
                parameter[-1].zero_()

    def forward(self, samples: Samples) -> Scores:
        """The scores of all pairs."""
        (f, a), (g, b) = self.of_x(samples.x), self.of_y(samples.y)
        return Scores(f @ g.mT * self.scale + a[:, None] + b, samples.image[:, None] != samples.image)

    @torch.no_grad()
    def judged(self, samples: Samples, measure: Measure) -> float:
        """A measure of the scores; of many samples the mean over pieces, each with samples from all over the images."""
        pieces = math.ceil(samples.count / MOST_AT_ONCE)
        rows = torch.arange(samples.count, device=samples.x.device)
        values = [measure(self(samples.take(rows[first::pieces]))).double() for first in range(pieces)]
        return float(torch.stack(values).mean())


@dataclass(frozen=True)
class Training:
    """How a critic learns.

    steps: at most. batch: samples in a step. width: of the vectors that are compared. hidden: width of the hidden
    layers. learning_rate: of Adam. check_every: steps between two looks at the samples that decide when to stop.
    patience: looks without improvement after which it stops.

    Raises:
        ConfigError: impossible values, when built.
    """

    steps: int = 400
    batch: int = 256
    width: int = 64
    hidden: int = 128
    learning_rate: float = 1e-3
    check_every: int = 25
    patience: int = 4

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "width", "hidden", "check_every", "patience"):
            whole_number("train a critic", name, getattr(self, name))
        number("train a critic", "learning_rate", self.learning_rate, least=0.0, most=1.0, open_ends=True)

    def critic(self, learn: Samples, check: Samples, loss: Measure, objective: Measure) -> Critic:
        """The critic at the step where the objective was largest on samples that it did not learn from."""
        critic = Critic(learn.x.shape[1], learn.y.shape[1], self.width, self.hidden).to(learn.x.device)
        optimizer = torch.optim.Adam(critic.parameters(), lr=self.learning_rate)
        best, kept, waited = critic.judged(check, objective), deepcopy(critic.state_dict()), 0
        for step in range(1, self.steps + 1):
            rows = torch.randperm(learn.count)[: self.batch].to(learn.x.device)
            optimizer.zero_grad()
            loss(critic(learn.take(rows))).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if step % self.check_every == 0:
                found = critic.judged(check, objective)
                waited = waited + 1
                if found > best:
                    best, kept, waited = found, deepcopy(critic.state_dict()), 0
                if waited == self.patience:
                    break
        critic.load_state_dict(kept)
        return critic
