import pytest

from rmeeto.ops.impl import cpp


@pytest.fixture(params=["avx512", "avx2", "portable"])
def instruction_set(request):
    """The C++ kernels of one instruction set, where this processor has it."""
    if cpp.absence() is not None:
        pytest.skip(f"no C++ kernels: {cpp.absence()}")
    if not cpp.use_instruction_set(request.param):
        pytest.skip(f"this processor has no {request.param}")
    assert cpp.instruction_set() == request.param
    yield request.param
    cpp.use_instruction_set(None)
