"""The operations on the processor, in C++: a thin binding to the library that is built from ``ops/csrc``.

Takes float32 and bfloat16 tokens and does its arithmetic in float32. The library has a plain C interface and is loaded
with ctypes at first use, so one build serves every version of Python and PyTorch. It works on as many threads as
`torch.get_num_threads` says, and lends PyTorch's own ones when it can.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from ctypes import Array, Structure, c_bool, c_char_p, c_double, c_int, c_int64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

LIBRARY = "rmeeto_kernels.so"
INTERFACE_VERSION = 8  # equals the one in csrc/interface.h
STORAGE = {torch.float32: 0, torch.bfloat16: 1}
DISTANCES = {"cosine": 0, "l1": 1, "l2": 2}
MAX_STATES = 16
WIDTHS = (2, 3, 4)
TOKENS = {
    "u",
    "delta",
    "B",
    "C",
    "gate",
    "x",
    "a",
    "b",
    "features",
}  # operands stored per token; the others are parameters


# ---- the library


def library_path() -> Path:
    """Return where the compiled library is, or would be if it had been built."""
    return Path(__file__).parents[1] / LIBRARY


def instruction_set() -> str:
    """Return what the kernels run on: ``"avx512_bf16"``, ``"avx512"``, ``"avx2"`` or ``"portable"``."""
    return str(library().rmeeto_instruction_set().decode())


def use_instruction_set(name: str | None) -> bool:
    """Run on the named instruction set from now on (None: the best one); False if this processor lacks it."""
    return bool(library().rmeeto_use_instruction_set(None if name is None else name.encode()))


@cache
def absence() -> str | None:
    """Return why the compiled library cannot be used here, or None."""
    if not library_path().exists():
        return (
            "the C++ kernels are not built: there was no working C++ compiler when rmeeto was installed "
            "(get one, then install rmeeto again)"
        )
    try:
        version = ctypes.CDLL(str(library_path())).rmeeto_interface_version()
    except (OSError, AttributeError) as error:
        return f"the C++ kernels cannot be loaded: {error}"
    if version != INTERFACE_VERSION:
        return f"the C++ kernels were built from other sources (interface {version}): install rmeeto again"
    return None


@cache
def library() -> ctypes.CDLL:
    """Return the compiled library, loaded."""
    loaded = ctypes.CDLL(str(library_path()))
    loaded.rmeeto_instruction_set.restype = c_char_p
    loaded.rmeeto_use_instruction_set.argtypes = [c_char_p]
    loaded.rmeeto_use_instruction_set.restype = c_bool
    for name in (
        *("scan_forward", "scan_both", "scan_backward", "conv_forward", "conv_backward"),
        *("norm_forward", "norm_backward", "nearest"),
    ):
        function = getattr(loaded, f"rmeeto_{name}")
        function.argtypes, function.restype = [c_void_p, c_int], c_bool
    for name in ("merge", "merge_backward", "lay_out", "pairs", "reduce"):
        function = getattr(loaded, f"rmeeto_{name}")
        function.argtypes, function.restype = [c_void_p, c_int], c_int
    loaded.rmeeto_block_pack.argtypes, loaded.rmeeto_block_pack.restype = [c_void_p], c_void_p
    loaded.rmeeto_block_run.argtypes, loaded.rmeeto_block_run.restype = [c_void_p, c_void_p, c_int], c_bool
    loaded.rmeeto_has_matrix_registers.restype = c_bool
    loaded.rmeeto_block_release.argtypes, loaded.rmeeto_block_release.restype = [c_void_p], None
    _share_threads(loaded)
    return loaded


def _share_threads(library: ctypes.CDLL) -> None:
    """Lend the kernels the threads of PyTorch's OpenMP runtime; without one they start their own at every call.

    PyTorch's threads spin for a while after each of its parallel regions, waiting for the next, and would keep the
    cores from anybody else's.
    """
    try:
        parallel = ctypes.CDLL(None).GOMP_parallel
    except (OSError, TypeError, AttributeError):  # no such runtime, or no such look-up (Windows)
        return
    library.rmeeto_use_openmp(ctypes.cast(parallel, c_void_p))


# ---- the structures of csrc/interface.h


class _Tokens(Structure):
    _fields_ = (("data", c_void_p), ("batch_stride", c_int64), ("token_stride", c_int64))


class _Scan(Structure):
    _fields_ = (
        *((name, c_int64) for name in ("batch", "tokens", "channels", "states")),
        *((name, c_int64) for name in ("storage", "delta_softplus", "reverse")),
        *((name, _Tokens) for name in ("u", "delta", "gate", "B", "C", "out")),
        *((name, c_void_p) for name in ("A", "skip", "delta_bias")),
        *((name, _Tokens) for name in ("grad", "du", "ddelta", "dgate", "dB", "dC")),
        *((name, c_void_p) for name in ("dA", "dskip", "ddelta_bias")),
    )


class _Conv(Structure):
    _fields_ = (
        *((name, c_int64) for name in ("batch", "tokens", "channels", "width")),
        *((name, c_int64) for name in ("storage", "silu", "reverse")),
        *((name, _Tokens) for name in ("x", "out")),
        *((name, c_void_p) for name in ("weight", "bias")),
        *((name, _Tokens) for name in ("grad", "dx")),
        *((name, c_void_p) for name in ("dweight", "dbias")),
    )


class _Norm(Structure):
    _fields_ = (
        *((name, c_int64) for name in ("batch", "tokens", "channels", "x_storage", "out_storage")),
        ("eps", c_double),
        *((name, _Tokens) for name in ("x", "residual", "stream", "out")),
        ("weight", c_void_p),
        *((name, _Tokens) for name in ("grad", "grad_stream", "dstream")),
        ("dweight", c_void_p),
    )


class BlockWeights(Structure):
    """Parameters of a block: see `rmeeto.ops.block`, which alone uses this and the next one."""

    _fields_ = (
        *((name, c_int64) for name in ("storage", "dim", "inner", "states", "rank", "width")),
        ("eps", c_double),
        *((name, c_void_p) for name in ("norm_weight", "conv_weight", "conv_bias", "A", "skip", "delta_bias")),
        *((name, c_void_p) for name in ("in_proj", "x_proj", "dt_proj", "out_proj")),
    )


class BlockTokens(Structure):
    """Where a call finds its tokens and room to work."""

    _fields_ = (
        *((name, c_int64) for name in ("batch", "tokens", "x_storage")),
        *((name, c_void_p) for name in ("x", "residual", "stream", "out", "b_and_c", "dt")),
        ("group", c_int64),
        *((name, c_void_p) for name in ("projected", "u")),
    )


class _Nearest(Structure):
    _fields_ = (
        *((name, c_int64) for name in ("batch", "rows", "columns", "features")),
        *((name, c_int64) for name in ("storage", "distance", "nth", "reach")),
        *((name, _Tokens) for name in ("a", "b", "a_at", "b_at")),
        *((name, c_void_p) for name in ("similarity", "index")),
        *((name, _Tokens) for name in ("low", "high")),
    )


class _Merge(Structure):
    _fields_ = (
        *((name, c_int64) for name in ("batch", "tokens", "left", "removed", "channels", "storage")),
        *((name, _Tokens) for name in ("values", "out", "kept", "source", "target", "share")),
    )


class _Layout(Structure):
    _fields_ = (
        *((name, c_int64) for name in ("batch", "tokens", "removed")),
        *((name, _Tokens) for name in ("source", "target")),
        *((name, c_void_p) for name in ("kept", "place")),
    )


class _Pairs(Structure):
    _fields_ = (
        *((name, c_int64) for name in ("batch", "tokens", "fixed", "removed", "features")),
        *((name, c_int64) for name in ("storage", "distance", "nth", "reach")),
        *((name, _Tokens) for name in ("values", "fixed_at")),
        *((name, c_void_p) for name in ("source", "target", "ranked", "targets")),
    )


class _Reduction(Structure):
    _fields_ = (
        *((name, c_int64) for name in ("batch", "tokens", "fixed", "removed", "features", "channels")),
        *((name, c_int64) for name in ("features_storage", "storage", "distance", "nth", "reach")),
        *((name, c_void_p) for name in ("values", "x", "residual", "size", "fixed_at")),
        *((name, c_void_p) for name in ("x_left", "residual_left", "size_left", "fixed_left_at")),
        *((name, c_void_p) for name in ("kept", "source", "place", "target")),
    )


def _tokens(x: Tensor | None) -> _Tokens:
    return _Tokens() if x is None else _Tokens(x.data_ptr(), *x.stride()[:2])


def _pointer(x: Tensor | None) -> int | None:
    return None if x is None else x.data_ptr()


def _call(name: str, problem: Structure | Array[Any]) -> None:
    outcome = getattr(library(), f"rmeeto_{name}")(ctypes.byref(problem), torch.get_num_threads())
    if outcome < 0:
        raise IndexError(f"{name}: a position lies outside of the sequence")
    if not outcome:
        raise MemoryError(f"{name}: no memory left for the kernel's scratch space")


# ---- bringing tensors into the form the library reads


def _readable(x: Tensor) -> Tensor:
    """Return x with its channels side by side; slices along the other axes stay where they lie."""
    return x if x.stride(-1) == 1 else x.contiguous()


def _parameter(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.to(torch.float32).contiguous()


def _like(x: Tensor | None) -> Tensor | None:
    """Return room for a contiguous gradient in x's dtype."""
    return None if x is None else x.new_empty(x.shape)


def _like_parameter(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.new_empty(x.shape, dtype=torch.float32)


def _in_dtype_of(x: Tensor | None, gradient: Tensor | None, lead: Tensor) -> Tensor:
    return lead.new_empty(0) if x is None or gradient is None else gradient.to(x.dtype)


# ---- the operations


def unsupported_reasons(op_name: str, tensors: Mapping[str, Tensor]) -> list[str]:
    """Return why the kernels cannot take these tensors; empty if they can."""
    reasons = []
    lead = next(iter(tensors.values()))
    if any(not x.is_cpu for x in tensors.values()):
        reasons.append("the C++ kernels read processor memory only")
    if op_name == "lay_out":
        return reasons  # positions alone
    if any(x.dtype != lead.dtype for name, x in tensors.items() if name in TOKENS) or lead.dtype not in STORAGE:
        reasons.append("the C++ kernels take tokens in float32 or bfloat16, all in the same")
    if op_name == "selective_scan" and tensors["A"].shape[1] > MAX_STATES:
        reasons.append(f"the C++ kernels hold at most {MAX_STATES} states, not {tensors['A'].shape[1]}")
    if op_name == "causal_conv" and tensors["weight"].shape[2] not in WIDTHS:
        reasons.append(f"the C++ kernels convolve with 2 to 4 taps, not {tensors['weight'].shape[2]}")
    return reasons


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
    """Compute `rmeeto.ops.selective_scan`."""
    u, delta, B, C = _readable(u), _readable(delta), _readable(B), _readable(C)
    gate = None if gate is None else _readable(gate)
    A, skip, delta_bias = A.to(torch.float32).contiguous(), _parameter(skip), _parameter(delta_bias)
    out = u.new_empty(u.shape)
    problem = _Scan(
        *(*u.shape, A.shape[1]),
        *(STORAGE[u.dtype], delta_softplus, reverse),
        *(_tokens(x) for x in (u, delta, gate, B, C, out)),
        *(_pointer(x) for x in (A, skip, delta_bias)),
    )
    _call("scan_forward", problem)
    return out


def scan_both(forward: Sequence[Tensor], backward: Sequence[Tensor], gate: Tensor) -> Tensor:
    """Compute `rmeeto.ops.bidirectional_scan`: the second walk finds what the first made in the cache."""
    gate, out = _readable(gate), forward[0].new_empty(forward[0].shape)
    walks, alive = (_Scan * 2)(), []
    for second, (u, delta, A, B, C, skip, bias) in enumerate((forward, backward)):
        tokens = [*map(_readable, (u, delta)), gate if second else None, *map(_readable, (B, C))]
        parameters = [x.to(torch.float32).contiguous() for x in (A, skip, bias)]
        alive += [*tokens, *parameters]
        walks[second] = _Scan(
            *(*u.shape, A.shape[1]),
            *(STORAGE[u.dtype], True, second),
            *(_tokens(x) for x in (*tokens, out)),
            *(_pointer(x) for x in parameters),
        )
    _call("scan_both", walks)
    return out


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
    """Compute the gradients of u, delta, A, B, C, skip, gate, delta_bias; shape ``(0,)`` for absent ones."""
    operands = (u, delta, A, B, C, skip, gate, delta_bias)
    grad, u, delta, B, C = _readable(grad), _readable(u), _readable(delta), _readable(B), _readable(C)
    gate = None if gate is None else _readable(gate)
    A, skip, delta_bias = A.to(torch.float32).contiguous(), _parameter(skip), _parameter(delta_bias)
    du, ddelta, dgate, dB, dC = (_like(x) for x in (u, delta, gate, B, C))
    dA, dskip, ddelta_bias = (_like_parameter(x) for x in (A, skip, delta_bias))
    problem = _Scan(
        *(*u.shape, A.shape[1]),
        *(STORAGE[u.dtype], delta_softplus, reverse),
        *(_tokens(x) for x in (u, delta, gate, B, C, None)),
        *(_pointer(x) for x in (A, skip, delta_bias)),
        *(_tokens(x) for x in (grad, du, ddelta, dgate, dB, dC)),
        *(_pointer(x) for x in (dA, dskip, ddelta_bias)),
    )
    _call("scan_backward", problem)
    gradients = (du, ddelta, dA, dB, dC, dskip, dgate, ddelta_bias)
    return tuple(_in_dtype_of(x, g, u) for x, g in zip(operands, gradients, strict=True))


def causal_conv(x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool, reverse: bool) -> Tensor:
    """Compute `rmeeto.ops.causal_conv`."""
    x, weight, bias = _readable(x), weight.to(torch.float32).contiguous(), _parameter(bias)
    out = x.new_empty(x.shape)
    problem = _Conv(
        *(*x.shape, weight.shape[2]),
        *(STORAGE[x.dtype], silu, reverse),
        *(_tokens(x), _tokens(out), _pointer(weight), _pointer(bias)),
    )
    _call("conv_forward", problem)
    return out


def causal_conv_backward(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool, reverse: bool
) -> tuple[Tensor, ...]:
    """Compute the gradients of x, weight, bias; shape ``(0,)`` for an absent bias."""
    operands = (x, weight, bias)
    grad, x, weight, bias = _readable(grad), _readable(x), weight.to(torch.float32).contiguous(), _parameter(bias)
    dx, dweight, dbias = _like(x), _like_parameter(weight), _like_parameter(bias)
    problem = _Conv(
        *(*x.shape, weight.shape[2]),
        *(STORAGE[x.dtype], silu, reverse),
        *(_tokens(x), _tokens(None), _pointer(weight), _pointer(bias)),
        *(_tokens(grad), _tokens(dx), _pointer(dweight), _pointer(dbias)),
    )
    _call("conv_backward", problem)
    return tuple(_in_dtype_of(o, g, x) for o, g in zip(operands, (dx, dweight, dbias), strict=True))


def add_norm(
    x: Tensor, residual: Tensor | None, weight: Tensor, eps: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Compute `rmeeto.ops.add_norm`."""
    x, weight = _readable(x), weight.to(torch.float32).contiguous()
    residual = None if residual is None else _readable(residual)
    stored = dtype if dtype in STORAGE else torch.float32
    out, stream = x.new_empty(x.shape, dtype=stored), x.new_empty(x.shape, dtype=torch.float32)
    problem = _Norm(
        *(*x.shape, STORAGE[x.dtype], STORAGE[stored], eps),
        *(_tokens(operand) for operand in (x, residual, stream, out)),
        _pointer(weight),
    )
    _call("norm_forward", problem)
    return out.to(dtype), stream


def add_norm_backward(
    grad: Tensor, grad_stream: Tensor, stream: Tensor, weight: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """Compute the gradients of the stream and of the weight."""
    grad = _readable(grad if grad.dtype in STORAGE else grad.to(torch.float32))
    grad_stream, scale = _readable(grad_stream), weight.to(torch.float32).contiguous()
    dstream, dweight = stream.new_empty(stream.shape), torch.empty_like(scale)
    problem = _Norm(
        *(*stream.shape, STORAGE[torch.float32], STORAGE[grad.dtype], eps),
        *(_tokens(operand) for operand in (None, None, stream, None)),
        _pointer(scale),
        *(_tokens(operand) for operand in (grad, grad_stream, dstream)),
        _pointer(dweight),
    )
    _call("norm_backward", problem)
    return dstream, dweight.to(weight.dtype)


def nearest(a: Tensor, b: Tensor, distance: str, nth: int, reach: int) -> tuple[Tensor, Tensor]:
    """Compute `rmeeto.ops.find_nearest` without ``seen``."""
    return _nearest(a, b, distance, nth, reach, None, None)


def nearest_seen(a: Tensor, b: Tensor, low: Tensor, high: Tensor, distance: str, nth: int) -> tuple[Tensor, Tensor]:
    """Compute `rmeeto.ops.find_nearest` with ``seen``."""
    return _nearest(a, b, distance, nth, b.shape[1], low, high)


def _nearest(
    a: Tensor, b: Tensor, distance: str, nth: int, reach: int, low: Tensor | None, high: Tensor | None
) -> tuple[Tensor, Tensor]:
    a, b = _readable(a), _readable(b)
    similarity = a.new_empty(a.shape[:2], dtype=torch.float32)
    index = a.new_empty(a.shape[:2], dtype=torch.int64)
    problem = _Nearest(
        *(*a.shape[:2], *b.shape[1:]),
        *(STORAGE[a.dtype], DISTANCES[distance], nth, reach),
        *(_tokens(a), _tokens(b), _Tokens(), _Tokens(), _pointer(similarity), _pointer(index)),
        *(_tokens(low), _tokens(high)),
    )
    _call("nearest", problem)
    return similarity, index


def merge_rows(values: Tensor, kept: Tensor, source: Tensor, target: Tensor, share: Tensor) -> Tensor:
    """Compute `rmeeto.ops.merge_rows`."""
    values, share = _readable(values), share.to(torch.float32)
    out = values.new_empty((*kept.shape, values.shape[2]))
    _call("merge", _merge_problem(values, out, kept, source, target, share))
    return out


def merge_rows_backward(grad: Tensor, kept: Tensor, source: Tensor, target: Tensor, share: Tensor) -> Tensor:
    """Compute the gradient of the values."""
    grad, share = _readable(grad), share.to(torch.float32)
    values = grad.new_empty((grad.shape[0], kept.shape[1] + source.shape[1], grad.shape[2]))
    _call("merge_backward", _merge_problem(values, grad, kept, source, target, share))
    return values


def _merge_problem(values: Tensor, out: Tensor, kept: Tensor, source: Tensor, target: Tensor, share: Tensor) -> _Merge:
    (batch, tokens, channels), left = values.shape, kept.shape[1]
    return _Merge(
        *(batch, tokens, left, source.shape[1], channels, STORAGE[values.dtype]),
        *(_tokens(x) for x in (values, out, kept, source, target, share)),
    )


def lay_out(source: Tensor, target: Tensor | None, length: int) -> tuple[Tensor, Tensor]:
    """Compute `rmeeto.ops.lay_out`."""
    batch, removed = source.shape
    kept, place = source.new_empty((batch, length - removed)), source.new_empty((batch, length))
    problem = _Layout(batch, length, removed, _tokens(source), _tokens(target), _pointer(kept), _pointer(place))
    _call("lay_out", problem)
    return kept, place


def closest_pairs(
    features: Tensor, protected: Tensor, r: int, distance: str, nth: int, reach: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Compute `rmeeto.ops.closest_pairs`."""
    features = _readable(features)
    (batch, length, width), fixed = features.shape, protected.shape[1]
    targets = (length - fixed) // 2
    counts = (r, r, length - fixed - targets, targets)
    source, target, ranked, others = (protected.new_empty(batch, count) for count in counts)
    problem = _Pairs(
        *(batch, length, fixed, r, width),
        *(STORAGE[features.dtype], DISTANCES[distance], nth, reach),
        *(_tokens(features), _tokens(protected)),
        *(_pointer(x) for x in (source, target, ranked, others)),
    )
    _call("pairs", problem)
    return source, target, ranked, others


def merge_closest(
    values: Tensor,
    x: Tensor,
    residual: Tensor | None,
    size: Tensor | None,
    protected: Tensor,
    r: int,
    distance: str,
    nth: int,
    reach: int,
) -> tuple[Tensor, Tensor | None, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Compute `rmeeto.ops.merge_closest`; all operands are contiguous."""
    batch, length, channels = x.shape
    fixed, left = protected.shape[1], length - r
    x_left = x.new_empty((batch, left, channels))
    residual_left = None if residual is None else residual.new_empty((batch, left, channels))
    size_left, protected_left = x.new_empty((batch, left), dtype=torch.float32), protected.new_empty((batch, fixed))
    kept, place = protected.new_empty((batch, left)), protected.new_empty((batch, length))
    source, target = protected.new_empty((batch, r)), protected.new_empty((batch, r))
    problem = _Reduction(
        *(batch, length, fixed, r, values.shape[2], channels),
        *(STORAGE[values.dtype], STORAGE[x.dtype], DISTANCES[distance], nth, reach),
        *(_pointer(operand) for operand in (values, x, residual, size, protected)),
        *(_pointer(operand) for operand in (x_left, residual_left, size_left, protected_left)),
        *(_pointer(operand) for operand in (kept, source, place, target)),
    )
    _call("reduce", problem)
    return x_left, residual_left, size_left, protected_left, kept, source, target, place
