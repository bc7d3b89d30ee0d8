"""The structures of a whole block; `rmeeto.ops.block` and `rmeeto.ops.trainable_block` call the library themselves."""

from __future__ import annotations

from ctypes import Structure, c_double, c_int64, c_void_p

OF_A_DIRECTION = ("conv_weight", "conv_bias", "A", "skip", "delta_bias", "x_proj", "dt_proj")


class BlockDirection(Structure):
    """Parameters of one direction, or their gradients."""

    _fields_ = tuple((name, c_void_p) for name in OF_A_DIRECTION)


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
