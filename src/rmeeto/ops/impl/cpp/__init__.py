"""The operations on the processor, in C++: a thin binding to the library that is built from ``ops/csrc``.

Takes float32 and bfloat16 tokens, and float16 by way of float32, and does its arithmetic in float32. The library has a
plain C interface and is loaded with ctypes at first use, so one build serves every version of Python and PyTorch. It
works on as many threads as `torch.get_num_threads` says: PyTorch's where it can, and its own ones where it cannot or
other programs keep the machine busy.

The structures, each beside the operation that fills it in, are those of ``csrc/interface.h``.
"""

from rmeeto.ops.impl.cpp.block import BlockTokens, block_weights, mamba_block, mamba_block_backward
from rmeeto.ops.impl.cpp.conv import causal_conv, causal_conv_backward
from rmeeto.ops.impl.cpp.layout import lay_out
from rmeeto.ops.impl.cpp.limits import MAX_STATES, WIDTHS, unsupported_reasons
from rmeeto.ops.impl.cpp.linear import Classification, Embedding
from rmeeto.ops.impl.cpp.loading import (
    LIBRARY,
    absence,
    call,
    instruction_set,
    library,
    library_path,
    use_instruction_set,
)
from rmeeto.ops.impl.cpp.merge import merge_rows, merge_rows_backward
from rmeeto.ops.impl.cpp.merging import merge_closest
from rmeeto.ops.impl.cpp.nearest import find_nearest, find_nearest_seen
from rmeeto.ops.impl.cpp.network import Network
from rmeeto.ops.impl.cpp.norm import add_norm, add_norm_backward
from rmeeto.ops.impl.cpp.operands import STORAGE, beside, tokens, within_reach
from rmeeto.ops.impl.cpp.pairs import closest_pairs
from rmeeto.ops.impl.cpp.scan import bidirectional_scan, selective_scan, selective_scan_backward
from rmeeto.ops.impl.cpp.watch import (
    SAME_OBJECTS,
    SAME_TENSORS,
    WatchedObjects,
    WatchedTensors,
    handle_of,
    readers,
    watching,
)
