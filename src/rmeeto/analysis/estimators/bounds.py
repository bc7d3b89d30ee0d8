"""Estimates of mutual information from a table of scores of pairs, in nats.

A critic gives every pair of a sample of X and a sample of Y a score. The pairs on the diagonal belong together; the
others stand for pairs that meet by chance. Equations are those of Poole et al., "On Variational Bounds of Mutual
Information" (ICML 2019), unless another paper is named.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


class Scores(NamedTuple):
    """The scores of all pairs of m samples, and which pairs are of two images and so met by chance.

    table: ``(m, m)``, row: sample of X, column: sample of Y. chance: ``(m, m)`` bool, False on the diagonal.
    """

    table: Float[Tensor, "m m"]
    chance: Bool[Tensor, "m m"]

    @property
    def matched(self) -> Tensor:
        """``(m,)``, the scores of the pairs that belong together."""
        return self.table.diagonal()


def log_mean_exp(table: Tensor, chosen: Tensor) -> Tensor:
    """log of the mean of exp over the chosen cells of a table."""
    return torch.logsumexp(table.masked_fill(~chosen, -math.inf).flatten(), 0) - chosen.sum().log()


def donsker_varadhan(scores: Scores) -> Tensor:
    """E[T] over matched pairs - log E[exp T] over chance pairs (Donsker and Varadhan 1983; Belghazi et al. 2018)."""
    return scores.matched.mean() - log_mean_exp(*scores)


def clipped(scores: Scores, clip: float) -> Tensor:
    """As :func:`donsker_varadhan`, but exp T is kept within exp(±clip): SMILE (Song and Ermon 2020, section 4)."""
    return scores.matched.mean() - log_mean_exp(scores.table.clamp(-clip, clip), scores.chance)


def contrast(scores: Scores) -> Tensor:
    """How surely each sample of Y is found among all candidates: InfoNCE (van den Oord, Li and Vinyals 2018).

    It cannot exceed the log of the number of candidates, which are the match and the chance pairs of a row.
    """
    diagonal = torch.eye(len(scores.table), dtype=torch.bool, device=scores.table.device)
    candidates = scores.chance | diagonal
    among = torch.logsumexp(scores.table.masked_fill(~candidates, -math.inf), 1)
    return (scores.matched - among + candidates.sum(1).log()).mean()


def jensen_shannon(scores: Scores) -> Tensor:
    """A bound of the Jensen-Shannon divergence; the scores that make it largest are log densities' ratios."""
    by_chance = F.softplus(scores.table).masked_fill(~scores.chance, 0.0).sum() / scores.chance.sum()
    return -F.softplus(-scores.matched).mean() - by_chance
