"""The operations as Triton kernels for CUDA devices, in float32 arithmetic whatever the storage.

Nothing is tuned at run time: timing at a first call would break CUDA graph capture and could change the order of sums
between processes. Rules pick the tiles; ``benchmarks/gpu_check.py --sweep`` measures others. Nothing is added up
atomically: two runs give the same bits.

Kernels are written in Triton's language, not in Python: their arguments have no types, and their tuples grow by + only.
``pyproject.toml`` excepts the files of this folder from the checks of both.

With ``TRITON_INTERPRET=1`` set before Triton is imported the kernels run on the processor, for tests.
"""

from rmeeto.ops.impl.triton.conv import causal_conv, causal_conv_backward
from rmeeto.ops.impl.triton.limits import unsupported_reasons
from rmeeto.ops.impl.triton.merge import merge_rows, merge_rows_backward
from rmeeto.ops.impl.triton.nearest import find_nearest
from rmeeto.ops.impl.triton.norm import add_norm, add_norm_backward
from rmeeto.ops.impl.triton.pairs import closest_pairs
from rmeeto.ops.impl.triton.scan import bidirectional_scan, selective_scan
from rmeeto.ops.impl.triton.scan_backward import selective_scan_backward
