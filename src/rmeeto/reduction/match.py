"""Match: which tokens leave and which absorb them (paper, algorithms 2 and 3).

Grouping splits the patches into candidates and targets. A distance finds each candidate's nearest target. A rank picks
the r candidates that leave. Protected tokens (class token, registers) take no part.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from rmeeto.ops.nearest import Distance as Distance  # re-exported
from rmeeto.ops.nearest import find_nearest
from rmeeto.ops.pairs import Pairs, closest_pairs
from rmeeto.ops.rows import patch_positions as patch_positions
from rmeeto.ops.rows import ranked_pairs, take
from rmeeto.reduction.protocol import Widths
from rmeeto.runtime.randomness import rand_by_image

Grouping = Literal["odd-even", "front-behind", "random"]
Rank = Literal["top", "random"]
Pairing = Literal["best", "random"]
Match = Pairs


def group(patches: Tensor, grouping: Grouping) -> tuple[Tensor, Tensor]:
    """Split ``(b, n)`` patch positions into candidates and targets (paper, algorithm 2 and Table 20).

    ``odd-even`` alternates, ``front-behind`` halves the sequence, ``random`` draws the halves anew for each
    image from torch's global generator. Candidates get the odd one out.
    """
    n = patches.shape[1]
    half = n - n // 2
    if grouping == "odd-even":
        return patches[:, 0::2], patches[:, 1::2]
    if grouping == "front-behind":
        return patches[:, :half], patches[:, half:]
    shuffled = patches.gather(1, rand_by_image(patches.shape, patches.device).argsort(1))
    return shuffled[:, :half].sort(1).values, shuffled[:, half:].sort(1).values


def reach_of(window: int) -> int:
    """Targets on each side of a candidate within ``window`` positions; candidates and targets alternate."""
    return (window + 1) // 2


@torch.no_grad()
def match(
    features: Tensor,
    protected: Tensor,
    r: int,
    *,
    distance: Distance = "cosine",
    grouping: Grouping = "odd-even",
    nth: int = 1,
    rank: Rank = "top",
    pairing: Pairing = "best",
    window: int | None = None,
    seen: tuple[Tensor, Tensor] | None = None,
) -> Match:
    """Choose r pairs per image from ``(b, l, f)`` features; no gradient flows through the choice.

    nth: take each candidate's nth closest target instead of the closest (Table 15). rank: the r most similar
    candidates, or r at random; pairing: the partner found, or one at random (Table 22). window: with odd-even
    grouping, compare with targets at most ``window`` patches away; None for all of them. seen: two ``(b, candidates)``,
    each candidate is compared with the targets [low, high) only. A candidate whose range is empty is ranked after all
    others and joins target number low, the next one in the sequence (the last target if there is no next one).
    Random draws come from torch's global generator.
    """
    reach = None if window is None else reach_of(window)
    if (grouping, rank, pairing, seen) == ("odd-even", "top", "best", None):
        return closest_pairs(features, protected, r, distance=distance, nth=nth, reach=reach)
    candidates, targets = group(patch_positions(protected, features.shape[1]), grouping)
    score, partner = find_nearest(
        take(features, candidates), take(features, targets), distance=distance, nth=nth, reach=reach, seen=seen
    )
    if pairing == "random":
        if reach is not None:
            candidate = torch.arange(partner.shape[1], device=partner.device)
            seen = (candidate - reach).clamp(min=0), (candidate + reach).clamp(max=targets.shape[1])
        partner = random_partners(partner, targets.shape[1], seen)
    if rank == "random":
        score = torch.where(score == -torch.inf, score, rand_by_image(score.shape, score.device, score.dtype))
    return Match(*ranked_pairs(score, partner, candidates, targets, r))


def random_partners(partner: Tensor, targets: int, seen: tuple[Tensor, Tensor] | None) -> Tensor:
    """A random target among those that each candidate sees; a candidate that sees none keeps its ``partner (b, n)``."""
    low, high = (torch.zeros_like(partner), torch.full_like(partner, targets)) if seen is None else seen
    drawn = low + (rand_by_image(partner.shape, partner.device) * (high - low)).long()
    return torch.where(low < high, drawn, partner)


def matching_operations(
    widths: Widths, features: str, patches: int, r: int, window: int | None = None, *, pairs: int | None = None
) -> float:
    """Exact operations of comparing candidates with targets and merging r of them.

    window: compare pairs at most this many patches apart, None for all. pairs: how many pairs are compared, if another
    neighbourhood than a window decides that.
    """
    width = widths.features[features]
    if pairs is None:
        pairs = (patches - patches // 2) * (patches // 2) if window is None else pairs_within(patches, window)
    combine = 2 * patches * width if features in widths.directional else 0  # mean of both directions
    normalise = 3 * patches * width
    compare = pairs * (2 * width + 1)
    move = 2 * r * (widths.moved + widths.moved // 2)  # difference, weight, add
    return combine + normalise + compare + move


def pairs_within(patches: int, window: int) -> int:
    """Pairs of a candidate and a target at most ``window`` patches apart."""
    targets, reach = patches // 2, reach_of(window)
    return sum(min(targets, i + reach) - max(0, i - reach) for i in range(patches - targets))
