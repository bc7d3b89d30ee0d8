"""Tokens and features drawn at random, small enough for loops."""

import torch

from rmeeto.reduction.protocol import Step
from rmeeto.reduction.tokens import Features, Tokens


def at(r: int) -> Step:
    return Step(r, block=2, depth=4)


def random_tokens(length=23, batch=3, dim=6) -> Tokens:
    """Integer-valued sizes; a class token and a register, in different places of each image."""
    return Tokens(
        x=torch.randn(batch, length, dim, dtype=torch.float64),
        residual=torch.randn(batch, length, dim, dtype=torch.float64),
        protected=torch.tensor([[0, 3], [length // 2, 0], [length - 1, length - 2]])[:batch],
        size=torch.randint(1, 5, (batch, length)).double(),
    )


def random_features(tokens: Tokens) -> Features:
    batch, length, dim = tokens.x.shape
    pairs = torch.randn(4, 2, batch, length, dim, dtype=torch.float64)
    bias = torch.randn(2, dim, dtype=torch.float64)
    return Features(*((forward, backward) for forward, backward in pairs), (bias[0], bias[1]))
