"""Every operation with a Triton kernel as a case: operands of one shape, what to time, and how wrong it is.

Truth is float64. An operation that computes numbers may have the error of plain PyTorch in the same dtype, plus two
roundings. An operation that chooses must choose as well as the best choice, to a tolerance for float32 near ties.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from rmeeto.ops import ScanOperands
from rmeeto.ops.impl import reference
from rmeeto.ops.rows import take

DEVICE = "cuda"
STATES, TAPS, EPS = 16, 4, 1e-5
UNIT = torch.finfo(torch.float32).eps
LEEWAY = 64  # roundings by which a choice may fall short of the best
SCAN_NAMES = ("u", "delta", "A", "B", "C", "skip", "gate", "delta_bias")


class Case(NamedTuple):
    """One operation on one set of operands.

    calls: by pass (forward, backward), what to time. plain: the same in plain PyTorch, where it is a fair rival.
    least_bytes: by pass, what must go through memory at least. check: for each result by how many float32 roundings
    its budget is missed (0: kept).
    """

    calls: Mapping[str, Callable[[], Any]]
    plain: Mapping[str, Callable[[], Any]]
    least_bytes: Mapping[str, int]
    check: Callable[[], dict[str, float]]


class Draw:
    """Normal numbers on the device, the same for the same calls."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self.generator = torch.Generator(DEVICE).manual_seed(0)
        self.dtype = dtype

    def floats(self, *size: int) -> Tensor:
        return torch.randn(size, generator=self.generator, device=DEVICE)

    def stored(self, *size: int) -> Tensor:
        return self.floats(*size).to(self.dtype)


def wide(tensors):
    if isinstance(tensors, ScanOperands):
        return ScanOperands(*map(wide, tensors))
    if isinstance(tensors, tuple | list):
        return [wide(x) for x in tensors]
    return tensors.double() if isinstance(tensors, Tensor) and tensors.is_floating_point() else tensors


def excess(found, plain, truth) -> float:
    if not truth.numel():
        return 0.0
    scale = truth.abs().amax()
    allowed = (plain.double() - truth).abs() + 2 * torch.finfo(found.dtype).eps * truth.abs() + 16 * UNIT * scale
    over = (found.double() - truth).abs() - allowed
    if found.dtype != plain.dtype or not over.isfinite().all():
        return float("inf")
    return float((over.clamp_min(0) / (UNIT * scale)).amax())


def shortfall(chosen, best) -> float:
    """How far choices fall short of the best, beyond the leeway; both are float64 similarities."""
    scale = best.abs().amax().clamp_min(UNIT)
    return float(((best - chosen).amax() / (UNIT * scale) - LEEWAY).clamp_min(0))


def _differentiable(kernels, op, given, grad, names, moved, **options) -> Case:
    """A case whose backward takes the gradient and then what the forward takes."""

    def both(module, grad, given):
        return (getattr(module, op)(*given), *getattr(module, f"{op}_backward")(grad, *given))

    def check():
        found, plain = both(kernels, grad, given), both(reference, grad, given)
        truth = both(reference, grad.double(), wide(given))
        return {name: excess(*three) for name, *three in zip(("out", *names), found, plain, truth, strict=True)}

    calls = {
        "forward": partial(getattr(kernels, op), *given, **options),
        "backward": partial(getattr(kernels, f"{op}_backward"), grad, *given, **options),
    }
    return Case(calls, {}, moved, check)


def selective_scan(kernels, shape, dtype, reverse=False, tile=None) -> Case:
    """(b, l, e); halves of one tensor where the model has such."""
    (batch, length, width), draw = shape, Draw(dtype)
    grad, (u, gate) = draw.stored(*shape), draw.stored(batch, length, 2 * width).chunk(2, dim=-1)
    delta, bias, skip = draw.stored(*shape), draw.floats(width) - 1, draw.floats(width)
    B, C = draw.stored(batch, length, 2 * STATES).chunk(2, dim=-1)
    A = -4 * draw.floats(width, STATES).abs()
    given = (ScanOperands(u, delta, A, B, C, skip, gate, bias), True, reverse)
    moved = {"forward": 4 * u.numel() * dtype.itemsize, "backward": 7 * u.numel() * dtype.itemsize}
    options = {"tile": tile} if tile else {}
    return _differentiable(kernels, "selective_scan", given, grad, SCAN_NAMES, moved, **options)


def bidirectional_scan(kernels, shape, dtype) -> Case:
    """(b, l, e); its rival is our own scan, run twice, and a sum."""
    (batch, length, width), draw = shape, Draw(dtype)
    gate = draw.stored(batch, length, 2 * width).chunk(2, dim=-1)[1]

    def walk():
        u, delta, (B, C) = draw.stored(*shape), draw.stored(*shape), draw.stored(batch, length, 2 * STATES).chunk(2, -1)
        A, skip, bias = -4 * draw.floats(width, STATES).abs(), draw.floats(width), draw.floats(width) - 1
        return ScanOperands(u, delta, A, B, C, skip, gate, bias)

    walks = walk(), walk()

    def one_after_the_other(module, forward, backward):
        return module.selective_scan(forward, True, False) + module.selective_scan(backward, True, True)

    def check():
        plain = one_after_the_other(reference, *walks)
        truth = one_after_the_other(reference, *wide(walks))
        return {"out": excess(kernels.bidirectional_scan(*walks), plain, truth)}

    return Case(
        calls={"forward": lambda: kernels.bidirectional_scan(*walks)},
        plain={"forward": lambda: one_after_the_other(kernels, *walks)},
        least_bytes={"forward": 6 * gate.numel() * dtype.itemsize},
        check=check,
    )


def causal_conv(kernels, shape, dtype, reverse=False) -> Case:
    """(b, l, e); half of a tensor, as in the model."""
    (batch, length, width), draw = shape, Draw(dtype)
    grad, (x, _) = draw.stored(*shape), draw.stored(batch, length, 2 * width).chunk(2, dim=-1)
    given = (x, draw.floats(width, 1, TAPS), draw.floats(width), True, reverse)
    moved = {"forward": 2 * x.numel() * dtype.itemsize, "backward": 3 * x.numel() * dtype.itemsize}
    return _differentiable(kernels, "causal_conv", given, grad, ("x", "weight", "bias"), moved)


def add_norm(kernels, shape, dtype, first=False) -> Case:
    """(b, l, d); ``first``: the stream begins here."""
    draw = Draw(dtype)
    given = (draw.stored(*shape), None if first else draw.floats(*shape), draw.floats(shape[-1]))
    _, stream = reference.add_norm(*given, EPS, dtype)
    back = (draw.stored(*shape), draw.floats(*shape), stream, given[2])

    def both(module, given, back, dtype):
        return *module.add_norm(*given, EPS, dtype), *module.add_norm_backward(*back, EPS)

    def check():
        found, plain = both(kernels, given, back, dtype), both(reference, given, back, dtype)
        truth = both(reference, wide(given), wide(back), torch.float64)
        names = ("normed", "stream", "dstream", "dweight")
        return {name: excess(*three) for name, *three in zip(names, found, plain, truth, strict=True)}

    calls, rivals = (
        {
            "forward": partial(module.add_norm, *given, EPS, dtype),
            "backward": partial(module.add_norm_backward, *back, EPS),
        }
        for module in (kernels, reference)
    )
    half, floats = stream.numel() * dtype.itemsize, stream.numel() * 4
    moved = {"forward": 2 * half + (1 if first else 2) * floats, "backward": half + 3 * floats}
    return Case(calls, rivals, moved, check)


def merge_rows(kernels, shape, dtype, removed=11) -> Case:
    """(b, l, c) of which ``removed`` rows leave, at most all but one."""
    (batch, length, _), draw = shape, Draw(dtype)
    removed = min(removed, length - 1)
    left = length - removed
    order = draw.floats(batch, length).argsort(dim=1)
    target = draw.floats(batch, removed, left).argmax(dim=2)
    share = draw.floats(batch, removed).sigmoid() / max(removed, 1)
    given = (draw.stored(*shape), order[:, removed:].contiguous(), order[:, :removed].contiguous(), target, share)
    grad = draw.stored(batch, left, shape[2])
    moved = dict.fromkeys(("forward", "backward"), (length + left) * batch * shape[2] * dtype.itemsize)

    def both(module, grad, given):
        return module.merge_rows(*given), module.merge_rows_backward(grad, *given[1:])

    def check():
        found, plain = both(kernels, grad, given), both(reference, grad, given)
        truth = both(reference, grad.double(), wide(given))
        return {name: excess(*three) for name, *three in zip(("out", "values"), found, plain, truth, strict=True)}

    calls, rivals = (
        {
            "forward": partial(module.merge_rows, *given),
            "backward": partial(module.merge_rows_backward, grad, *given[1:]),
        }
        for module in (kernels, reference)
    )
    return Case(calls, rivals, moved, check)


def find_nearest(kernels, shape, dtype, distance="cosine", nth=1, reach=None, tile=None, precision=None) -> Case:
    """(b, l, f), of which every second row is compared with the others."""
    from rmeeto.ops.impl.triton.nearest import find_nearest_at

    rows = Draw(dtype).stored(*shape)
    a, b = rows[:, 0::2], rows[:, 1::2]
    asked = (distance, nth, shape[1] if reach is None else reach)

    def check():
        similarity, index = find_nearest_at(a, b, None, None, *asked, tile=tile, precision=precision)
        best, _ = reference.find_nearest(a.double(), b.double(), *asked)
        chosen = _similarity(a, take(b, index), distance)
        off = (similarity.double() - best).abs().amax() / (UNIT * best.abs().amax().clamp_min(UNIT))
        return {
            "similarity": float((off - LEEWAY).clamp_min(0)),
            "index": max(shortfall(chosen, best), shortfall(best, chosen)),  # the nth best, no better and no worse
        }

    return Case(
        calls={"forward": lambda: find_nearest_at(a, b, None, None, *asked, tile=tile, precision=precision)},
        plain={"forward": lambda: reference.find_nearest(a, b, *asked)},
        least_bytes={"forward": rows.numel() * dtype.itemsize},
        check=check,
    )


def closest_pairs(kernels, shape, dtype, distance="cosine", r=11) -> Case:
    """(b, l, f) with the row in the middle protected."""
    features, (batch, length, _) = Draw(dtype).stored(*shape), shape
    protected = torch.full((batch, 1), length // 2, device=DEVICE)
    asked = (protected, min(r, length // 2), distance, 1, length)

    def check():
        source, target, ranked, targets = kernels.closest_pairs(features, *asked)
        truth = reference.closest_pairs(features.double(), *asked)
        candidates = truth[2].sort(dim=1).values
        if not torch.equal(ranked.sort(dim=1).values, candidates) or not torch.equal(targets, truth[3]):
            return {"groups": float("inf")}
        best, _ = reference.find_nearest(
            take(features, candidates).double(), take(features, targets).double(), distance, 1, length
        )
        score = torch.zeros(batch, length, dtype=torch.float64, device=DEVICE).scatter(1, candidates, best)
        in_order = score.gather(1, ranked)
        found = _similarity(take(features, source), take(features, target), distance)
        return {
            "source": 0.0 if torch.equal(source, ranked[:, : asked[1]]) else float("inf"),
            "target": shortfall(found, score.gather(1, source)) if source.numel() else 0.0,
            "ranked": shortfall(in_order[:, :-1], in_order[:, 1:]) if in_order.shape[1] > 1 else 0.0,
        }

    return Case(
        calls={"forward": lambda: kernels.closest_pairs(features, *asked)},
        plain={"forward": lambda: reference.closest_pairs(features, *asked)},
        least_bytes={"forward": features.numel() * dtype.itemsize},
        check=check,
    )


def _similarity(a, b, distance):
    """The float64 similarity of rows, pair by pair."""
    a, b = a.double(), b.double()
    if distance == "cosine":
        return F.cosine_similarity(a, b, dim=-1, eps=1e-12)
    return -(a - b).norm(p=1 if distance == "l1" else 2, dim=-1)


DIRECTIONS = [{"reverse": False}, {"reverse": True}]
DISTANCES = [{"distance": name} for name in ("cosine", "l1", "l2")]
# by operation: what builds a case, its variants to check, its variants to time
OPERATIONS = {
    "selective_scan": (selective_scan, DIRECTIONS, [{}]),
    "bidirectional_scan": (bidirectional_scan, [{}], [{}]),
    "causal_conv": (causal_conv, DIRECTIONS, [{}]),
    "add_norm": (add_norm, [{"first": False}, {"first": True}], [{}]),
    "merge_rows": (merge_rows, [{"removed": 0}, {"removed": 11}, {"removed": 500}], [{"removed": 11}]),
    "find_nearest": (find_nearest, [*DISTANCES, {"nth": 3}, {"reach": 2}], [*DISTANCES, {"reach": 2}]),
    "closest_pairs": (closest_pairs, DISTANCES, [{}]),
}
