"""Our operations as plain operations of PyTorch, for programs that run without rmeeto.

The reference implementations walk the tokens one by one, which a trace would write out as tens of thousands of nodes.
Here the scan walks √l tokens of √l stretches at once, then from stretch to stretch. All factors are decays between 0
and 1, so nothing grows, and nothing is divided.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rmeeto.ops.impl import reference
from rmeeto.ops.rows import patch_positions, ranked_pairs, take


def walk(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """``h_t = exp(Δ_t A) h_{t-1} + Δ_t u_t B_t``, ``y_t = h_t C_t``: ``(…, l, e)``.

    u, delta: ``(…, l, e)``. B, C: ``(…, l, n)``. A: ``(e, n)``, or with more axes as ``(…, 1, 1, e, n)``.
    """
    length = u.shape[-2]
    each = math.isqrt(length - 1) + 1
    stretches = -(-length // each)
    missing = each * stretches - length

    def stretched(x: Tensor) -> Tensor:
        padded = F.pad(x, (0, 0, 0, missing))
        return padded.reshape(*x.shape[:-2], stretches, each, x.shape[-1])

    decays = torch.exp(stretched(delta)[..., None] * A).unbind(-3)  # each (…, stretches, e, n)
    entering = (stretched(delta * u)[..., None] * stretched(B)[..., None, :]).unbind(-3)
    states, shares = [entering[0]], [decays[0]]  # of a walk that begins anew in each stretch, and of what it began with
    for decay, new in zip(decays[1:], entering[1:], strict=True):
        states.append(decay * states[-1] + new)
        shares.append(decay * shares[-1])
    carried = [torch.zeros_like(states[0].select(-3, 0))]
    for kept, own in zip(shares[-1].unbind(-3)[:-1], states[-1].unbind(-3)[:-1], strict=True):
        carried.append(kept * carried[-1] + own)
    full = torch.stack(states, -3) + torch.stack(shares, -3) * torch.stack(carried, -3).unsqueeze(-3)
    y = (full * stretched(C)[..., None, :]).sum(-1)
    return y.flatten(-3, -2)[..., :length, :]


def step_sizes(delta: Tensor, bias: Tensor | None, softplus: bool) -> Tensor:
    """Δ with its bias, after softplus."""
    delta = delta if bias is None else delta + bias
    return F.softplus(delta) if softplus else delta


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    skip: Tensor | None,
    gate: Tensor | None,
    bias: Tensor | None,
    softplus: bool,
    reverse: bool,
    impl: str,
) -> Tensor:
    """`rmeeto.ops.selective_scan`."""
    given = (u, step_sizes(delta, bias, softplus), B, C)
    ahead, delta, B, C = (x.flip(1) for x in given) if reverse else given
    y = walk(ahead, delta, A, B, C)
    y = y.flip(1) if reverse else y
    y = y if skip is None else y + skip * u
    return y if gate is None else y * F.silu(gate)


def bidirectional_scan(*given: Any) -> Tensor:
    """`rmeeto.ops.bidirectional_scan`: one walk over both directions, ``(2, b, l, …)``."""
    u, delta, A, B, C, skip, gate, bias, u_b, delta_b, A_b, B_b, C_b, skip_b, bias_b, _ = given
    delta, delta_b = step_sizes(delta, bias, True), step_sizes(delta_b, bias_b, True)
    pairs = ((u, u_b), (delta, delta_b), (B, B_b), (C, C_b))
    both = [torch.stack([ahead, behind.flip(1)]) for ahead, behind in pairs]
    u_both, delta_both, B_both, C_both = both
    y = walk(u_both, delta_both, torch.stack([A, A_b])[:, None, None, None], B_both, C_both)
    joined = y[0] + y[1].flip(1)
    for by, of in ((skip, u), (skip_b, u_b)):
        joined = joined if by is None else joined + by * of
    return joined * F.silu(gate)


def causal_conv(x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool, reverse: bool, impl: str) -> Tensor:
    """`rmeeto.ops.causal_conv`."""
    extra = weight.shape[-1] - 1
    padded = F.pad(x.mT, (0, extra) if reverse else (extra, 0))
    y = F.conv1d(padded, weight.flip(-1) if reverse else weight, bias, groups=weight.shape[0]).mT
    return F.silu(y) if silu else y


def add_norm(
    x: Tensor, residual: Tensor | None, weight: Tensor, eps: float, dtype: torch.dtype, impl: str
) -> tuple[Tensor, Tensor]:
    """`rmeeto.ops.add_norm`."""
    return reference.add_norm(x, residual, weight, eps, dtype)


def find_nearest(a: Tensor, b: Tensor, distance: str, nth: int, reach: int, impl: str) -> tuple[Tensor, Tensor]:
    """`rmeeto.ops.find_nearest`."""
    row = torch.arange(a.shape[1])[None].expand(a.shape[0], -1)
    return find_nearest_seen(a, b, row - reach, row + reach, distance, nth, impl)


def find_nearest_seen(
    a: Tensor, b: Tensor, low: Tensor, high: Tensor, distance: str, nth: int, impl: str
) -> tuple[Tensor, Tensor]:
    """`rmeeto.ops.find_nearest_seen`, with all pairs in memory at once."""
    columns = b.shape[1]
    low, high = low.clamp(0, columns), high.clamp(0, columns)
    column = torch.arange(columns)
    score = similarity(a, b, distance)
    score = score.masked_fill((column < low[..., None]) | (column >= high[..., None]), -torch.inf)
    ranked = score.sort(dim=-1, descending=True, stable=True)
    place = ((high - low).clamp(1, nth) - 1)[..., None]
    best, index = (x.gather(-1, place)[..., 0] for x in (ranked.values, ranked.indices))
    return best, torch.where(low < high, index, low.clamp(max=columns - 1))


def similarity(a: Tensor, b: Tensor, distance: str) -> Tensor:
    """``(b, n, m)`` cosines of rows, or minus their l1 or l2 distances."""
    if distance == "cosine":
        return F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).mT
    return -torch.cdist(a, b, p=1.0 if distance == "l1" else 2.0, compute_mode="donot_use_mm_for_euclid_dist")


def closest_pairs(
    features: Tensor, protected: Tensor, r: int, distance: str, nth: int, reach: int, impl: str
) -> tuple[Tensor, ...]:
    """`rmeeto.ops.closest_pairs`."""
    patches = patch_positions(protected, features.shape[1])
    candidates, targets = patches[:, 0::2], patches[:, 1::2]
    score, partner = find_nearest(take(features, candidates), take(features, targets), distance, nth, reach, impl)
    return ranked_pairs(score, partner, candidates, targets, r)


def lay_out(source: Tensor, target: Tensor | None, length: int, impl: str) -> tuple[Tensor, Tensor]:
    """`rmeeto.ops.lay_out`."""
    return reference.lay_out(source, target, length)


def merge_rows(values: Tensor, kept: Tensor, source: Tensor, target: Tensor, share: Tensor, impl: str) -> Tensor:
    """`rmeeto.ops.merge_rows`."""
    return reference.merge_rows(values, kept, source, target, share)


OPERATIONS: tuple[Callable[..., Any], ...] = (
    add_norm,
    bidirectional_scan,
    causal_conv,
    closest_pairs,
    find_nearest,
    find_nearest_seen,
    lay_out,
    merge_rows,
    selective_scan,
)


def table() -> dict[Any, Callable[..., Any]]:
    """What stands for each of our operations, as `torch.export` takes it."""
    return {getattr(torch.ops.rmeeto, function.__name__).default: function for function in OPERATIONS}
