import subprocess
import sys
import warnings

import pytest
import torch

from rmeeto.ops import causal_conv, select
from rmeeto.ops.impl import cpp

MISSING = "the C++ kernels are not built: somebody took them away"


@pytest.fixture
def without_kernels(monkeypatch):
    absence = select._absence
    monkeypatch.setattr(select, "_absence", lambda name: MISSING if name == "cpp" else absence(name))
    monkeypatch.setattr(select, "_warned", False)


def convolve():
    return causal_conv(torch.randn(1, 4, 3), torch.randn(3, 1, 4))


def test_falling_back_is_said_once(without_kernels):
    with pytest.warns(select.FallbackWarning, match="somebody took them away") as caught:
        [convolve() for _ in range(2)]
    assert len(caught) == 1
    assert "slower" in str(caught[0].message)
    assert "doctor" in str(caught[0].message)


def test_availability_names_every_implementation(without_kernels):
    found = select.availability()
    assert tuple(found) == select.IMPLEMENTATIONS
    assert found["reference"] == "ready"
    assert found["cpp"] == MISSING
    if not torch.cuda.is_available():
        assert found["triton"] == "there is no CUDA device"


def test_a_device_without_kernels_is_said(monkeypatch):
    monkeypatch.setattr(select, "KERNELS", {})
    monkeypatch.setattr(select, "_warned", False)
    with pytest.warns(select.FallbackWarning, match="no kernels for 'cpu' devices"):
        convolve()


@pytest.mark.skipif(cpp.absence() is not None, reason=f"no C++ kernels: {cpp.absence()}")
def test_auto_takes_the_kernels_on_the_processor(monkeypatch):
    monkeypatch.setattr(select, "_warned", False)
    calls = []
    monkeypatch.setattr(cpp, "causal_conv", lambda x, *rest: calls.append(x) or torch.empty_like(x))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        convolve()
    assert len(calls) == 1


def test_the_reference_needs_no_optional_import():
    program = """
import sys
sys.modules["triton"] = None
import torch
from rmeeto.ops import selective_scan
u = torch.randn(1, 3, 2)
selective_scan(u, u.abs(), -torch.rand(2, 4), torch.randn(1, 3, 4), torch.randn(1, 3, 4), impl="reference")
assert "rmeeto.ops.impl.triton" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
