"""The structures of a frozen block; `rmeeto.ops.block` calls the library itself."""

from __future__ import annotations

from ctypes import Structure, c_double, c_int64, c_void_p


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
