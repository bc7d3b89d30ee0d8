"""The operations in plain PyTorch: the specification that every kernel is tested against.

Runs on any device and in any floating dtype, and autograd differentiates the two forward functions to any order.
Arithmetic is float64 for float64 inputs and float32 for everything else, whatever the storage, as in the kernels.

The gradients are written out as well: what they say about the kernels' backward is easier to read than autograd's
doings, they need a third of the memory, and they work where autograd does not reach, inside an operation that runs
under a dispatch mode (a FLOP counter, say). The tests compare them with autograd's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from rmeeto.ops.autocast import without_autocast
from rmeeto.ops.rows import flat_index, patch_positions, ranked_pairs, take


def unsupported_reasons(op_name: str, tensors: Mapping[str, Tensor]) -> list[str]:
    """Return nothing: the reference takes whatever the operation's own shape checks let through."""
    return []


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    skip: Tensor | None,
    gate: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    reverse: bool,
) -> Tensor:
    """Walk the tokens one by one; see `rmeeto.ops.selective_scan` for the meaning and the shapes."""
    storage, dtype = u.dtype, _arithmetic(u)
    with without_autocast(u):
        u, delta, A, B, C = (x.to(dtype) for x in (u, delta, A, B, C))
        if delta_bias is not None:
            delta = delta + delta_bias.to(dtype)
        if delta_softplus:
            delta = functional.softplus(delta)

        steps = list(_steps(delta, delta * u, B, C))
        h = u.new_zeros(u.shape[0], *A.shape)  # (b, e, n)
        outputs = []
        for delta_t, drive_t, B_t, C_t in reversed(steps) if reverse else steps:
            h = torch.exp(delta_t * A) * h + drive_t * B_t
            outputs.append((h * C_t).sum(-1))
        y = torch.stack(outputs[::-1] if reverse else outputs, dim=1)

        if skip is not None:
            y = y + skip.to(dtype) * u
        if gate is not None:
            y = y * functional.silu(gate.to(dtype))
        return y.to(storage)


def selective_scan_backward(
    grad: Tensor,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    skip: Tensor | None,
    gate: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    reverse: bool,
) -> tuple[Tensor, ...]:
    """Return the gradients of u, delta, A, B, C, skip, gate, delta_bias; shape ``(0,)`` for absent ones.

    With dy the gradient before the gate and dh_t that of h_t through everything the walk does after it::

        dh_t = dy_t * C_t + exp(d_{t+1} * A) * dh_{t+1}
        dB_t = sum_e(dh_t * d_t * u_t)               dC_t = sum_e(dy_t * h_t)
        w_t  = dh_t * exp(d_t * A) * h_{t-1}         dA   = sum_t(w_t * d_t)
        dd_t = u_t * sum_n(dh_t * B_t) + sum_n(w_t * A)
        du_t = d_t * sum_n(dh_t * B_t) + dy_t * skip
    """
    operands, dtype = (u, delta, A, B, C, skip, gate, delta_bias), _arithmetic(u)
    grad, u, delta, A, B, C = (x.to(dtype) for x in (grad, u, delta, A, B, C))
    slope = torch.ones_like(delta)
    if delta_bias is not None:
        delta = delta + delta_bias.to(dtype)
    if delta_softplus:
        slope, delta = torch.sigmoid(delta), functional.softplus(delta)
    dy = grad if gate is None else grad * functional.silu(gate.to(dtype))

    walk = list(zip(_steps(delta, delta * u, B, C), dy.unsqueeze(-1).unbind(1), strict=True))
    walk = walk[::-1] if reverse else walk
    states = [u.new_zeros(u.shape[0], *A.shape)]
    for (delta_t, drive_t, B_t, _), _ in walk:
        states.append(torch.exp(delta_t * A) * states[-1] + drive_t * B_t)

    dA, passed, sums = torch.zeros_like(A), torch.zeros_like(states[0]), []
    for (delta_t, drive_t, B_t, C_t), dy_t in reversed(walk):
        h = states.pop()
        dh = dy_t * C_t + passed
        passed = torch.exp(delta_t * A) * dh
        w = passed * states[-1]
        dA = dA + (w * delta_t).sum(0)
        over_channels = (dh * drive_t).sum(1), (dy_t * h).sum(1)
        sums.append((*over_channels, (dh * B_t).sum(-1), (w * A).sum(-1), (h * C_t).sum(-1)))
    in_order = sums if reverse else sums[::-1]
    dB, dC, dh_B, w_A, y = (torch.stack(of_tokens, dim=1) for of_tokens in zip(*in_order, strict=True))

    du, ddelta = delta * dh_B, (u * dh_B + w_A) * slope
    dskip = dgate = ddelta_bias = None
    if skip is not None:
        y, du, dskip = y + skip.to(dtype) * u, du + dy * skip.to(dtype), (dy * u).sum((0, 1))
    if gate is not None:
        dgate = grad * y * _silu_slope(gate.to(dtype))
    if delta_bias is not None:
        ddelta_bias = ddelta.sum((0, 1))
    return _stored((du, ddelta, dA, dB, dC, dskip, dgate, ddelta_bias), operands)


def causal_conv(x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool, reverse: bool) -> Tensor:
    """Add up shifted copies of ``x``; see `rmeeto.ops.causal_conv` for the meaning and the shapes."""
    storage, dtype = x.dtype, _arithmetic(x)
    with without_autocast(x):
        x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
        y = _convolved(x, weight, bias, reverse)
        return (functional.silu(y) if silu else y).to(storage)


def causal_conv_backward(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool, reverse: bool
) -> tuple[Tensor, ...]:
    """Return the gradients of x, weight, bias; shape ``(0,)`` where there was no bias."""
    operands, dtype, length = (x, weight, bias), _arithmetic(x), x.shape[1]
    grad, x, weight, bias = grad.to(dtype), x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    if silu:
        grad = grad * _silu_slope(_convolved(x, weight, bias, reverse))
    padded, of_taps = _padded(x, weight, reverse), []
    dpadded, extra = torch.zeros_like(padded), weight.shape[-1] - 1
    for tap, start in _taps(weight, reverse):
        of_taps.append((grad * padded[:, start : start + length]).sum((0, 1)))
        dpadded = dpadded + functional.pad(weight[:, 0, tap] * grad, (0, 0, start, extra - start))
    dweight = torch.stack(of_taps, dim=-1).unsqueeze(1)
    dx = dpadded[:, :length] if reverse else dpadded[:, -length:]
    return _stored((dx, dweight, None if bias is None else grad.sum((0, 1))), operands)


CHUNK_BYTES = 8 << 20  # of similarities at a time: enough for a fast product, little beside the tokens
NARROW = 256  # rows at a time where each sees a few columns only


def add_norm(
    x: Tensor, residual: Tensor | None, weight: Tensor, eps: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Add, then scale by the inverse root mean square; see `rmeeto.ops.add_norm` for the meaning and the shapes."""
    exact = _arithmetic(x)
    stream = x.to(exact, copy=True) if residual is None else residual + x.to(exact)
    return (stream * _inverse_rms(stream, eps) * weight.to(exact)).to(dtype), stream


def add_norm_backward(
    grad: Tensor, grad_stream: Tensor, stream: Tensor, weight: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """Return the gradients of the stream and of the weight."""
    grad, scale = grad.to(stream.dtype), _inverse_rms(stream, eps)
    inward = grad * weight.to(stream.dtype)
    pull = scale**3 * (inward * stream).mean(-1, keepdim=True)
    dweight = (grad * stream * scale).sum((0, 1))
    return (scale * inward - pull * stream + grad_stream).contiguous(), dweight.to(weight.dtype)


def nearest(a: Tensor, b: Tensor, distance: str, nth: int, reach: int) -> tuple[Tensor, Tensor]:
    """Compare within reach; see `rmeeto.ops.find_nearest` for the meaning and the shapes."""
    row = torch.arange(a.shape[1], device=a.device)[None]
    bounds = [(i - reach, i + reach) for i in range(a.shape[1])]
    return _nearest(a, b, row - reach, row + reach, bounds, distance, nth)


def nearest_seen(a: Tensor, b: Tensor, low: Tensor, high: Tensor, distance: str, nth: int) -> tuple[Tensor, Tensor]:
    """Compare within ranges; see `rmeeto.ops.find_nearest`. The processor waits once for another device."""
    bounds = list(zip(low.amin(0).tolist(), high.amax(0).tolist(), strict=True))
    return _nearest(a, b, low, high, bounds, distance, nth)


def _nearest(
    a: Tensor, b: Tensor, low: Tensor, high: Tensor, bounds: Sequence[tuple[int, int]], distance: str, nth: int
) -> tuple[Tensor, Tensor]:
    """Compare some rows at a time, and for each piece the columns that one of its rows sees in one of the images.

    low, high: (b, n) or (1, n). bounds: per row, the columns that it sees in any image.
    """
    a, b = a.to(_arithmetic(a)), b.to(_arithmetic(b))
    batch, rows, columns = *a.shape[:2], b.shape[1]
    low, high = low.clamp(0, columns), high.clamp(0, columns)
    fitting = CHUNK_BYTES // (batch * columns * a.element_size())
    widest = max(end - first for first, end in bounds)
    step = max(1, min(fitting, max(widest // 2, NARROW)))
    with without_autocast(a):  # half-precision products would scramble near ties
        if distance == "cosine":
            a, b = functional.normalize(a, dim=-1), functional.normalize(b, dim=-1)
        found = []
        for start in range(0, rows, step):
            piece = slice(start, start + step)
            first, end = _span(bounds[piece], columns)
            score = _similarity(a[:, piece], b[:, first:end], distance)
            found.append(_best_seen(score, first, low[:, piece], high[:, piece], nth))
    best, index = (torch.cat(parts, dim=1) for parts in zip(*found, strict=True))
    return best, torch.where(low < high, index, low.clamp(max=columns - 1))


def _span(bounds: Sequence[tuple[int, int]], columns: int) -> tuple[int, int]:
    """Return first and end of the columns that some rows see, and of one at least."""
    first = min(max(0, min(first for first, _ in bounds)), columns - 1)
    return first, max(first + 1, min(columns, max(end for _, end in bounds)))


def _similarity(a: Tensor, b: Tensor, distance: str) -> Tensor:
    """Return the similarity (b, n, m) of rows; l2 without the products that would drown small distances."""
    if distance == "cosine":
        return a @ b.mT
    return -torch.cdist(a, b, p=1.0 if distance == "l1" else 2.0, compute_mode="donot_use_mm_for_euclid_dist")


def _best_seen(score: Tensor, first: int, low: Tensor, high: Tensor, nth: int) -> tuple[Tensor, Tensor]:
    """Return value and index of each row's nth best among the columns [low, high), or of the last of those.

    score: (b, n, m), of the columns from ``first`` on. Where nothing is seen the value is -∞ and the index void.
    """
    column = torch.arange(first, first + score.shape[-1], device=score.device)
    seen = (column >= low[..., None]) & (column < high[..., None])
    score = score.masked_fill(~seen, -torch.inf)
    if nth == 1:
        best = score.max(dim=-1)
        return best.values, best.indices + first
    ranked = score.sort(dim=-1, descending=True, stable=True)
    place = ((high - low).clamp(1, nth) - 1).expand(score.shape[:-1])[..., None]
    return ranked.values.gather(-1, place)[..., 0], ranked.indices.gather(-1, place)[..., 0] + first


def closest_pairs(
    features: Tensor, protected: Tensor, r: int, distance: str, nth: int, reach: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Split, search, rank; see `rmeeto.ops.closest_pairs` for the meaning and the shapes."""
    patches = patch_positions(protected, features.shape[1])
    candidates, targets = patches[:, 0::2], patches[:, 1::2]
    score, partner = nearest(take(features, candidates), take(features, targets), distance, nth, reach)
    source, target, ranked, targets = ranked_pairs(score, partner, candidates, targets, r)
    return source.contiguous(), target, ranked, targets.contiguous()


def lay_out(source: Tensor, target: Tensor | None, length: int) -> tuple[Tensor, Tensor]:
    """Count those that stay; see `rmeeto.ops.lay_out` for the meaning and the shapes."""
    batch, r = source.shape
    stays = torch.ones(batch, length, dtype=torch.bool, device=source.device).scatter(1, source, False)
    place = stays.cumsum(1) - 1
    slots = torch.where(stays, place, length - r)  # sources share one slot past the end, cut off below
    index = torch.arange(length, device=source.device).expand(batch, -1)
    kept = index.new_zeros(batch, length - r + 1).scatter(1, slots, index)[:, :-1]
    gone = torch.full_like(source, -1) if target is None else place.gather(1, target)
    return kept.contiguous(), place.scatter(1, source, gone)


def merge_rows(values: Tensor, kept: Tensor, source: Tensor, target: Tensor, share: Tensor) -> Tensor:
    """Touch only the rows that something ends in; see `rmeeto.ops.merge_rows` for the meaning and the shapes."""
    out, rows = take(values, kept), flat_index(target, kept.shape[1])
    flat = out.flatten(0, 1)
    change = (take(values, source).flatten(0, 1) - flat.index_select(0, rows)) * share.reshape(-1, 1)
    return flat.index_add(0, rows, change.to(values.dtype)).reshape(out.shape)


def merge_rows_backward(grad: Tensor, kept: Tensor, source: Tensor, target: Tensor, share: Tensor) -> Tensor:
    """Return the gradient of the values: a group's members get their shares, the row that stayed the rest."""
    length = kept.shape[1] + source.shape[1]
    rest = share.new_ones(kept.shape).scatter_add(1, target, -share)
    staying, leaving = grad * rest[..., None], take(grad, target) * share[..., None]
    values = grad.new_zeros((grad.shape[0] * length, grad.shape[2]))
    for positions, rows in ((kept, staying), (source, leaving)):
        values = values.index_copy(0, flat_index(positions, length), rows.flatten(0, 1).to(grad.dtype))
    return values.reshape(grad.shape[0], length, grad.shape[2])


def _arithmetic(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _inverse_rms(x: Tensor, eps: float) -> Tensor:
    return torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)


def _steps(delta: Tensor, drive: Tensor, B: Tensor, C: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield each token's step size and drive (b, e, 1), and its B and C (b, 1, n)."""
    per_channel = (x.unsqueeze(-1).unbind(1) for x in (delta, drive))
    per_state = (x.unsqueeze(2).unbind(1) for x in (B, C))
    return zip(*per_channel, *per_state, strict=True)


def _taps(weight: Tensor, reverse: bool) -> list[tuple[int, int]]:
    """Return each tap with the place in the padded sequence where it starts reading."""
    width = weight.shape[-1]
    return [(tap, width - 1 - tap if reverse else tap) for tap in range(width)]


def _padded(x: Tensor, weight: Tensor, reverse: bool) -> Tensor:
    extra = weight.shape[-1] - 1
    return functional.pad(x, (0, 0, 0, extra) if reverse else (0, 0, extra, 0))


def _convolved(x: Tensor, weight: Tensor, bias: Tensor | None, reverse: bool) -> Tensor:
    padded, y = _padded(x, weight, reverse), torch.zeros_like(x) if bias is None else bias.expand(x.shape)
    for tap, start in _taps(weight, reverse):
        y = y + weight[:, 0, tap] * padded[:, start : start + x.shape[1]]
    return y


def _silu_slope(x: Tensor) -> Tensor:
    share = torch.sigmoid(x)
    return share * (1 + x * (1 - share))


def _stored(gradients: Sequence[Tensor | None], operands: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
    """Return each gradient contiguous and in its operand's dtype."""
    lead = operands[0]
    assert lead is not None
    return tuple(
        lead.new_empty(0) if x is None or g is None else g.to(x.dtype).contiguous()
        for g, x in zip(gradients, operands, strict=True)
    )
