"""Embedding and classifier of a frozen model; `rmeeto.ops.packed.linear` calls the library itself."""

from __future__ import annotations

from ctypes import Structure, c_double, c_int64, c_void_p

from rmeeto.ops.impl.cpp.operands import Tokens


class Embedding(Structure):
    """Images, how they are cut, and where their patches go."""

    _fields_ = (
        *((name, c_int64) for name in ("batch", "channels", "frames", "height", "width")),
        *((name, c_int64) for name in ("tubelet", "high", "wide", "tokens")),
        *((name, c_void_p) for name in ("images", "patch_at", "table", "out")),
    )


class Classification(Structure):
    """Tokens, and which of them is classified."""

    _fields_ = (
        *((name, c_int64) for name in ("batch", "tokens", "x_storage")),
        ("eps", c_double),
        *((name, c_void_p) for name in ("x", "residual")),
        ("token_at", Tokens),
        *((name, c_void_p) for name in ("norm_weight", "bias", "out")),
    )
