import importlib.util
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import pytest
import torch

from rmeeto.ops.impl import cpp
from triton_kernels import are_interpreted, call_kernel, call_on_device


@pytest.fixture(params=["avx512_bf16", "avx512", "avx2", "portable"])
def instruction_set(request):
    """The C++ kernels of one instruction set, where this processor has it."""
    if cpp.absence() is not None:
        pytest.skip(f"no C++ kernels: {cpp.absence()}")
    if not cpp.use_instruction_set(request.param):
        pytest.skip(f"this processor has no {request.param}")
    assert cpp.instruction_set() == request.param
    yield request.param
    cpp.use_instruction_set(None)


@pytest.fixture(scope="session")
def interpreter():
    """``interpreter(name, *args)`` runs a function of the Triton implementation on the processor.

    Whether Triton interprets must be known before it is imported, so the interpreter has a process of its own.
    """
    if importlib.util.find_spec("triton") is None:
        pytest.skip("Triton is not installed")
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TRITON_INTERPRET", "1")
            assert pool.submit(are_interpreted).result()  # starts the process, the only one to see the variable

        def run(name, *args, **kwargs):
            return pool.submit(call_kernel, name, *args, **kwargs).result()

        yield run


needs_device = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


@pytest.fixture(params=["interpreter", pytest.param("cuda", marks=[pytest.mark.gpu, needs_device])])
def kernel(request):
    """``kernel(name, *args)`` runs a function of the implementation and returns its results on the processor."""
    return call_on_device if request.param == "cuda" else request.getfixturevalue("interpreter")
