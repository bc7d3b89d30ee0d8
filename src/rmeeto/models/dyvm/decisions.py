"""Decisions: hard choices with a gradient, and the order of tokens that follows from them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from rmeeto.runtime.randomness import rand_by_image

Draw = Callable[[Tensor], Tensor]

CERTAIN = 1e-6  # no draw is less likely than this, so that its logit is finite


def straight_through(log_odds: Tensor) -> Tensor:
    """Draw exactly 1 with probability σ(log_odds), else exactly 0, with the gradient of the relaxed draw.

    This is a hard Gumbel-softmax at temperature 1: the difference of two Gumbel draws is one logistic draw, and a
    softmax over two logits is a sigmoid of their difference. Log-odds of -∞ give 0.
    """
    noise = torch.logit(rand_by_image(log_odds.shape, log_odds.device, log_odds.dtype), eps=CERTAIN)
    soft = torch.sigmoid(log_odds + noise)
    hard = (log_odds + noise > 0).to(soft.dtype)
    return hard + (soft - soft.detach())  # the bracket is exactly 0


def best(log_odds: Tensor, count: int) -> Tensor:
    """``(b, l)`` bool: the ``count`` tokens of each image with the highest log-odds."""
    chosen = log_odds.topk(count, dim=1).indices
    return torch.zeros_like(log_odds, dtype=torch.bool).scatter(1, chosen, True)


def arrange(keep: Tensor, cls_index: Tensor, *, middle: bool) -> tuple[Tensor, Tensor]:
    """Put the kept tokens first, in their order and with the class token in its position, and the others after them.

    The first tokens are then the sequence that the network sees in eval mode, without the others.

    keep: ``(b, l)`` bool; the class token is always kept. cls_index: ``(b, 1)``, the class token's position.
    middle: whether it belongs after half of the kept patches, or before all of them.

    Returns ``order (b, l)``, each token's input position, and the class token's new position ``(b, 1)``.
    """
    keep = keep.scatter(1, cls_index, False)
    goes = (~keep).scatter(1, cls_index, False)
    kept = keep.sum(1, keepdim=True)
    cls_place = kept // 2 if middle else torch.zeros_like(kept)
    rank = keep.cumsum(1) - 1
    destination = torch.where(keep, rank + (rank >= cls_place), kept + goes.cumsum(1))
    destination = destination.scatter(1, cls_index, cls_place)
    here = torch.arange(keep.shape[1], device=keep.device).expand_as(destination)
    return torch.empty_like(destination).scatter(1, destination, here), cls_place
