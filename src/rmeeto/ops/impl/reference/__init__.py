"""The operations in plain PyTorch: the specification that every kernel is tested against.

Runs on any device and in any floating dtype, and autograd differentiates the forward functions to any order.
Arithmetic is float64 for float64 inputs and float32 for everything else, whatever the storage, as in the kernels.

The gradients are written out as well: what they say about the kernels' backward is easier to read than autograd's
doings, they need a third of the memory, and they work where autograd does not reach, inside an operation that runs
under a dispatch mode (a FLOP counter, say). The tests compare them with autograd's.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from rmeeto.ops.impl.reference.block import mamba_block, mamba_block_backward
from rmeeto.ops.impl.reference.conv import causal_conv, causal_conv_backward
from rmeeto.ops.impl.reference.layout import lay_out
from rmeeto.ops.impl.reference.merge import merge_rows, merge_rows_backward
from rmeeto.ops.impl.reference.nearest import find_nearest, find_nearest_seen
from rmeeto.ops.impl.reference.norm import add_norm, add_norm_backward
from rmeeto.ops.impl.reference.pairs import closest_pairs
from rmeeto.ops.impl.reference.scan import selective_scan, selective_scan_backward


def unsupported_reasons(op_name: str, tensors: Mapping[str, Tensor]) -> list[str]:
    """Return nothing: the reference takes whatever the operation's own shape checks let through."""
    return []
