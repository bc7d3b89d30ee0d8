"""A whole frozen model; `rmeeto.ops.packed.network` fills it in."""

from __future__ import annotations

from ctypes import Structure, c_int64, c_void_p

from rmeeto.ops.impl.cpp.linear import Classification, Embedding
from rmeeto.ops.impl.cpp.operands import CHOICES


class Network(Structure):
    """What was packed of it, its reductions, its images and where their logits go."""

    _fields_ = (
        *((name, c_int64) for name in ("depth", "dim", "protected_count", "storage", *CHOICES, "cache")),
        *((name, c_void_p) for name in ("embedder", "blocks", "classifier", "removed", "protected_at")),
        ("reduction_seconds", c_void_p),
        ("source_map", c_void_p),
        ("embedding", Embedding),
        ("classification", Classification),
    )
