"""Frames: which frame of a clip each token's own patch lies in, and which targets stand near it in time.

All frames have equally many patches before the first reduction; afterwards the counts differ from clip to clip. No
extra state is needed: the plans say where every token came from, and order is kept.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rmeeto.ops.rows import patch_positions
from rmeeto.reduction.tokens import Tokens


def patch_frames(tokens: Tokens, time: int) -> Tensor:
    """The frame of every patch that is left, ``(b, n)`` int64, ascending where order was kept.

    A merged token lies in the frame of the token that absorbed the others. time: frames of patches at the start.
    """
    at_first = tokens.origins()
    patches = at_first.gather(1, patch_positions(tokens.protected, tokens.length))
    protected = at_first.gather(1, tokens.protected)
    number = patches - (protected[:, None] < patches[:, :, None]).sum(-1)
    return number * time // (tokens.length_at_first - protected.shape[1])


def targets_near(frame: Tensor, frames: int) -> tuple[Tensor, Tensor]:
    """The targets [low, high) that lie at most ``frames`` frames from each candidate, both ``(b, n - n//2)``.

    frame: ``(b, n)``, of patches that are candidates and targets in turn, ascending. The range is empty if all
    those targets have been removed; low is then the next target's number.
    """
    candidates, targets = frame[:, 0::2], frame[:, 1::2].contiguous()
    low = torch.searchsorted(targets, candidates - frames)
    high = torch.searchsorted(targets, candidates + frames, right=True)
    return low, high


def pairs_near(patches: int, time: int, frames: int) -> int:
    """Pairs of a candidate and a target at most ``frames`` frames apart, if all frames have equally many patches.

    That is exact before the first reduction. Later it is an estimate: similar frames lose more than others.
    """
    begins = [-(-patches * t // time) for t in range(time + 1)]  # the first patch of each frame
    return sum(
        _candidates(begins[t], begins[t + 1]) * _targets(begins[max(0, t - frames)], begins[min(time, t + frames + 1)])
        for t in range(time)
    )


def _candidates(first: int, end: int) -> int:
    return (end + 1) // 2 - (first + 1) // 2


def _targets(first: int, end: int) -> int:
    return end // 2 - first // 2
