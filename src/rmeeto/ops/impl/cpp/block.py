"""A whole Mamba block in one call, forward and backward; `rmeeto.ops.packed.block` fills in the same structures."""

from __future__ import annotations

import ctypes
from ctypes import Structure, c_double, c_int64, c_void_p

import torch
from torch import Tensor

from rmeeto.ops.impl.cpp.limits import MAX_STATES
from rmeeto.ops.impl.cpp.loading import library
from rmeeto.ops.impl.cpp.operands import STORAGE, pointer
from rmeeto.ops.operands import BlockKept, BlockParameters, DirectionParameters


class BlockDirection(Structure):
    """Parameters of one direction, or their gradients."""

    _fields_ = tuple((name, c_void_p) for name in DirectionParameters._fields)


class BlockWeights(Structure):
    """Parameters of a block."""

    _fields_ = (
        *((name, c_int64) for name in ("storage", "dim", "inner", "states", "rank", "width")),
        *((name, c_double) for name in ("eps", "scale")),
        *((name, c_void_p) for name in ("norm_weight", "in_proj", "out_proj")),
        ("directions", BlockDirection * 2),
    )


class BlockTokens(Structure):
    """Where a call finds its tokens and room to work."""

    _fields_ = (
        *((name, c_int64) for name in ("batch", "tokens", "x_storage")),
        *((name, c_void_p) for name in ("x", "residual", "stream", "out", "b_and_c", "dt")),
        ("group", c_int64),
        *((name, c_void_p) for name in ("normed", "projected", "u", "walked")),
    )


class BlockGradients(Structure):
    """What a forward pass left behind, gradients that come in, and where those go that come out."""

    _fields_ = (
        *((name, c_int64) for name in ("batch", "tokens")),
        *((name, c_void_p) for name in ("stream", "b_and_c", "dt", "normed", "projected", "walked")),
        *((name, c_void_p) for name in ("grad", "grad_stream", "dstream")),
        *((name, c_void_p) for name in ("norm_weight", "in_proj", "out_proj")),
        ("directions", BlockDirection * 2),
    )


def mamba_block(
    x: Tensor, residual: Tensor | None, parameters: BlockParameters, eps: float, scale: float
) -> tuple[Tensor, BlockKept]:
    """Compute `rmeeto.ops.mamba_block`.

    What leaves the caches costs more than arithmetic: of the seven tensors as wide as the inner width that the separate
    operations keep for their gradients, two and a half are kept here.
    """
    (batch, length, _), (inner, rank) = x.shape, parameters.forward.dt_proj.shape
    x, residual = x.contiguous(), None if residual is None else residual.contiguous()
    out, stream, normed = (torch.empty_like(x) for _ in range(3))
    projected, walked = x.new_empty((batch, length, 2 * inner)), x.new_empty((batch, length, inner))
    b_and_c, dt = x.new_empty((2, batch, length, 2, MAX_STATES)), x.new_empty((2, batch, length, rank))
    u = x.new_empty((2, batch, length, inner))
    tokens = BlockTokens(
        *(batch, length, STORAGE[x.dtype], x.data_ptr(), pointer(residual)),
        *(y.data_ptr() for y in (stream, out, b_and_c, dt)),
        *(batch, *(y.data_ptr() for y in (normed, projected, u, walked))),
    )
    _run("mamba_block", parameters, eps, scale, tokens)
    return out, BlockKept(stream, b_and_c, dt, normed, projected, walked)


def mamba_block_backward(
    grad: Tensor, grad_stream: Tensor, kept: BlockKept, parameters: BlockParameters, eps: float, scale: float
) -> tuple[Tensor, BlockParameters]:
    """Compute the gradients of the residual stream and of all parameters."""
    grad, grad_stream, kept = grad.contiguous(), grad_stream.contiguous(), BlockKept(*(x.contiguous() for x in kept))
    parameters = BlockParameters.of([x.contiguous() for x in parameters.flat()])
    dstream, gradients = torch.empty_like(grad), BlockParameters.of([*map(torch.empty_like, parameters.flat())])
    tokens = BlockGradients(
        *grad.shape[:2],
        *(y.data_ptr() for y in (*kept, grad, grad_stream, dstream)),
        *(y.data_ptr() for y in gradients[:3]),
        _directions(gradients),
    )
    _run("mamba_block_backward", parameters, eps, scale, tokens)
    return dstream, gradients


def block_weights(parameters: BlockParameters, eps: float, scale: float) -> BlockWeights:
    """Parameters as the library reads them: contiguous tensors, which must live as long as the structure is used."""
    (inner, states), (_, _, width) = parameters.forward.A.shape, parameters.forward.conv_weight.shape
    dim, rank = parameters.out_proj.shape[0], parameters.forward.dt_proj.shape[1]
    return BlockWeights(
        *(STORAGE[parameters.in_proj.dtype], dim, inner, states, rank, width, eps, scale),
        *(x.data_ptr() for x in parameters[:3]),
        _directions(parameters),
    )


def _directions(parameters: BlockParameters) -> ctypes.Array[BlockDirection]:
    sides = (parameters.forward, parameters.backward)
    return (BlockDirection * 2)(*(BlockDirection(*(x.data_ptr() for x in side)) for side in sides))


def _run(name: str, parameters: BlockParameters, eps: float, scale: float, tokens: Structure) -> None:
    function, weights = getattr(library(), f"rmeeto_{name}"), block_weights(parameters, eps, scale)
    if not function(ctypes.byref(weights), ctypes.byref(tokens), torch.get_num_threads()):
        raise MemoryError(f"{name}: no memory left for the kernel's scratch space")
