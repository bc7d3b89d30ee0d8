"""A whole frozen model; `rmeeto.ops.packed.network` fills it in."""

from __future__ import annotations

from ctypes import Structure, c_int64, c_void_p

from rmeeto.ops.impl.cpp.ends import Classification, Embedding


class Network(Structure):
    """What was packed of it, its reductions, its images and where their logits go."""

    _fields_ = (
        *((name, c_int64) for name in ("depth", "dim", "fixed", "storage", "distance", "nth", "reach", "cache")),
        *((name, c_void_p) for name in ("first", "blocks", "last", "removed", "fixed_at", "reduction_seconds")),
        ("embedding", Embedding),
        ("classification", Classification),
    )
