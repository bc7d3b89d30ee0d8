"""The operations that PyTorch lacks: tensors in, tensors out, nothing of models."""

import warnings
from typing import Any

from rmeeto.import_hooks import when_imported
from rmeeto.ops import flop_formulas
from rmeeto.ops.bidirectional import bidirectional_scan
from rmeeto.ops.block import mamba_block
from rmeeto.ops.conv import causal_conv
from rmeeto.ops.layout import lay_out
from rmeeto.ops.merge import merge_rows
from rmeeto.ops.merging import Neighbours, Pairing, merge_closest, merge_neighbours
from rmeeto.ops.nearest import find_nearest
from rmeeto.ops.norm import add_norm
from rmeeto.ops.operands import ScanOperands
from rmeeto.ops.pairs import Matching, closest_pairs
from rmeeto.ops.scan import selective_scan

__all__ = [
    "Matching",
    "Neighbours",
    "Pairing",
    "ScanOperands",
    "add_norm",
    "bidirectional_scan",
    "causal_conv",
    "closest_pairs",
    "find_nearest",
    "lay_out",
    "mamba_block",
    "merge_closest",
    "merge_neighbours",
    "merge_rows",
    "selective_scan",
]


def __getattr__(name: str) -> Any:
    if name != "Walk":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn("rmeeto.ops.Walk is rmeeto.ops.ScanOperands now", DeprecationWarning, stacklevel=2)
    return lambda u, delta, A, B, C, skip, delta_bias: ScanOperands(u, delta, A, B, C, skip, delta_bias=delta_bias)


when_imported("torch.utils.flop_counter", flop_formulas.register)
