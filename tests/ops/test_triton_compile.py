"""Every Triton kernel compiled for sm_90, which needs no device.

The compiler checks what the interpreter does not: that types and shapes of a loop's variables stay.
"""

import importlib
import inspect
import os

import pytest

from triton_kernels import PACKAGE

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed"),
    pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="interpreted kernels have no compiler"),
]

SCAN = {"SOFTPLUS": True, "REVERSE": True, "STATES": 16, "ROWS": 4, "LANES": 8, "CHUNK": 4}
CONV = {"SILU": True, "REVERSE": True, "TAPS": 4, "TOKENS": 16, "CHANNELS": 128, "SEGMENT": 32}
PRODUCTS = {"DISTANCE": "cosine", "ROWS": 32, "COLUMNS": 64, "FEATURES": 32}
DIFFERENCES = {"ROWS": 16, "COLUMNS": 32, "FEATURES": 16}
MERGE = {"ROWS": 4, "CHANNELS": 512, "SOURCES": 64}
NORM = {"ROWS": 4, "WIDTH": 512, "SEGMENT": 16}
OPTIONAL = {
    *("skip_ptr", "gate_ptr", "bias_ptr", "dskip_ptr", "dgate_ptr", "dbias_ptr"),
    *("a_at_ptr", "b_at_ptr", "residual_ptr"),
}
POSITIONS = {
    *("a_at_ptr", "b_at_ptr", "index_ptr", "protected_ptr", "partner_ptr", "candidates_ptr", "targets_ptr"),
    *("source_ptr", "target_ptr", "ranked_ptr", "kept_ptr"),
}
# file, kernel, choices, warps, an instruction that must be there
COMPILED = [
    ("scan_forward", "_scan_forward", SCAN, 1, "ex2.approx"),
    ("scan_backward", "_scan_backward", SCAN, 1, "ex2.approx"),
    ("conv", "_conv_forward", CONV, 4, "ex2.approx"),
    ("conv", "_conv_backward", CONV, 1, "ex2.approx"),
    ("nearest", "_nearest", {**PRODUCTS, "PRECISION": "ieee"}, 4, "fma.rn.f32"),
    ("nearest", "_nearest", {**PRODUCTS, "PRECISION": "tf32"}, 4, "mma.sync"),
    ("nearest", "_nearest", {**DIFFERENCES, "PRECISION": "ieee", "DISTANCE": "l1"}, 4, "abs.f32"),
    ("nearest", "_nearest", {**DIFFERENCES, "PRECISION": "ieee", "DISTANCE": "l2"}, 4, "sqrt"),
    ("pairs", "_split", {"FIXED": 1, "ROWS": 128}, 4, "__assertfail"),
    ("pairs", "_rank", {"ROWS": 32, "OTHERS": 128}, 4, "setp.gt"),
    ("merge", "_merge", MERGE, 4, "__assertfail"),
    ("merge", "_merge_backward", MERGE, 4, "__assertfail"),
    ("norm", "_add_norm", NORM, 4, "rsqrt.approx"),
    ("norm", "_add_norm_backward", NORM, 4, "rsqrt.approx"),
]


def type_of(argument, kernel):
    if argument == "eps":
        return "fp32"
    if not argument.endswith("_ptr"):
        return "i32"
    if argument in POSITIONS and not kernel.startswith("_scan"):  # whose kept_ptr holds states
        return "*i64"
    return "*bf16" if argument.startswith(("u", "x", "a_", "b_", "values", "grad", "normed")) else "*fp32"


@pytest.mark.parametrize("optional", [True, False], ids=["everything", "bare"])
@pytest.mark.parametrize(
    ("file", "name", "choices", "warps", "instruction"), COMPILED, ids=lambda x: x if isinstance(x, str) else ""
)
def test_compiles_for_an_h200(file, name, choices, warps, instruction, optional, tmp_path, monkeypatch):
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    if "nvidia" not in triton.backends.backends:
        pytest.skip("this Triton has no compiler for NVIDIA devices")
    kernel = getattr(importlib.import_module(f"{PACKAGE}.{file}"), name)
    arguments = list(inspect.signature(kernel.fn).parameters)
    if not optional and not OPTIONAL & set(arguments):
        pytest.skip("has no optional operands")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    chosen = choices if optional else choices | dict.fromkeys(OPTIONAL)
    constants = {x: chosen[x] for x in arguments if x in chosen}
    types = {x: "constexpr" if x in constants else type_of(x, name) for x in arguments}
    source = ASTSource(kernel, types, constexprs=constants)
    options = {"num_warps": warps, "enable_fp_fusion": True, "debug": instruction == "__assertfail"}
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={**options, "sanitize_overflow": False})
    assert instruction in compiled.asm["ptx"]
