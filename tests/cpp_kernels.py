"""Where tests of an operation run: on its specification, and on the C++ kernels if they were built."""

import pytest

from rmeeto.ops.impl import cpp

needs_kernels = pytest.mark.skipif(cpp.absence() is not None, reason=f"no C++ kernels: {cpp.absence()}")
IMPLS = ["reference", pytest.param("cpp", marks=needs_kernels)]
