"""Match: which tokens leave and which absorb them (paper, algorithms 2 and 3).

Grouping splits the patches into candidates and targets, a distance finds each candidate's partner, a rank
picks the r candidates that go. Protected tokens (class token, registers) take no part, wherever they stand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from rmeeto.reduction.plan import take
from rmeeto.reduction.protocol import Widths

Distance = Literal["cosine", "l1", "l2"]
Grouping = Literal["odd-even", "front-behind", "random"]
Rank = Literal["top", "random"]
Pairing = Literal["best", "random"]


@dataclass(frozen=True, slots=True)
class Match:
    """r pairs per image, as input positions, and the two groups they were drawn from.

    source, target: ``(b, r)`` int64, by falling similarity. ranked: ``(b, n - n//2)``, all candidates by
    falling similarity, the sources first. targets: ``(b, n//2)``, ascending.
    """

    source: Tensor
    target: Tensor
    ranked: Tensor
    targets: Tensor


def patch_positions(protected: Tensor, length: int) -> Tensor:
    """``(b, l-p)``: the positions of all tokens but the ``(b, p)`` protected ones, ascending."""
    count = protected.shape[1]
    index = torch.arange(length - count, device=protected.device)
    # the patch before which the j-th protected token stands has j patches fewer in front of it than its position says
    before = protected.sort(dim=1).values - torch.arange(count, device=protected.device)
    return index + (index[None, :, None] >= before[:, None, :]).sum(-1)


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
    shuffled = patches.gather(1, torch.rand(patches.shape, device=patches.device).argsort(1))
    return shuffled[:, :half].sort(1).values, shuffled[:, half:].sort(1).values


def similarity(a: Tensor, b: Tensor, distance: Distance) -> Tensor:
    """Similarity of ``(b, n, f)`` with ``(b, m, f)`` rows, ``(b, n, m)`` in at least float32, larger is closer.

    Cosine of the vectors, or minus the l1 or l2 distance between them as they are.
    """
    a, b = (v if v.dtype == torch.float64 else v.float() for v in (a, b))
    with torch.autocast(a.device.type, enabled=False):  # half-precision products would scramble near ties
        if distance == "cosine":
            return F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).transpose(1, 2)
        return -torch.cdist(a, b, p=1.0 if distance == "l1" else 2.0)


def nth_closest(score: Tensor, nth: int) -> tuple[Tensor, Tensor]:
    """Score and index of the nth best column in each row of ``(b, n, m)``; equal scores rank by index."""
    if nth == 1:
        best = score.max(dim=-1)
        return best.values, best.indices
    ranked = score.sort(dim=-1, descending=True, stable=True)
    column = min(nth, score.shape[-1]) - 1
    return ranked.values[..., column], ranked.indices[..., column]


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
) -> Match:
    """Choose r pairs per image from ``(b, l, f)`` features; no gradient flows through the choice.

    nth: take each candidate's nth closest target instead of the closest (Table 15). rank: the r most similar
    candidates, or r at random; pairing: the partner found, or one at random (Table 22). Random draws come
    from torch's global generator.
    """
    candidates, targets = group(patch_positions(protected, features.shape[1]), grouping)
    score, partner = nth_closest(similarity(take(features, candidates), take(features, targets), distance), nth)
    if pairing == "random":
        partner = torch.randint_like(partner, targets.shape[1])
    if rank == "random":
        score = torch.rand_like(score)
    order = score.sort(dim=1, descending=True, stable=True).indices
    ranked = candidates.gather(1, order)
    target = targets.gather(1, partner.gather(1, order[:, :r]))
    return Match(source=ranked[:, :r], target=target, ranked=ranked, targets=targets)


def matching_operations(widths: Widths, features: str, patches: int, r: int) -> float:
    """Exact operations of comparing all candidates with all targets and merging r of them."""
    width = widths.features[features]
    targets = patches // 2
    combine = 2 * patches * width if features in widths.directional else 0  # mean of both directions
    normalise = 3 * patches * width
    compare = (patches - targets) * targets * (2 * width + 1)
    move = 2 * r * (widths.moved + widths.moved // 2)  # difference, weight, add
    return combine + normalise + compare + move
