"""Every Triton kernel compiled for sm_90, which needs no device.

The compiler checks what the interpreter does not: that types and shapes of a loop's variables stay.
"""

import inspect
import os
from importlib import import_module

import pytest

from triton_kernels import PACKAGE

triton = pytest.importorskip("triton", reason="Triton is not installed")
conv, merge, nearest, norm, pairs, scan, scan_backward, tile = (
    import_module(f"{PACKAGE}.{file}")
    for file in ("conv", "merge", "nearest", "norm", "pairs", "scan", "scan_backward", "tile")
)

pytestmark = [
    pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="interpreted kernels have no compiler"),
    pytest.mark.skipif("nvidia" not in triton.backends.backends, reason="this Triton cannot compile for NVIDIA"),
]


def sizes(chosen):
    return {name.upper(): x for name, x in chosen._asdict().items()}


SCAN = {"SOFTPLUS": True, "REVERSE": True, "STATES": 16}
CONV = {"SILU": True, "REVERSE": True, "TAPS": 4, "TOKENS": conv.CONV_TOKENS, "CHANNELS": conv.CONV_CHANNELS}
FORWARD, BACKWARD = (SCAN | sizes(tiles["many"]) for tiles in (tile.FORWARD_TILES, tile.BACKWARD_TILES))
PRODUCTS, DIFFERENCES = {"DISTANCE": "cosine"} | sizes(nearest.PRODUCTS), sizes(nearest.DIFFERENCES)
MERGE = {"ROWS": merge.ELEMENTS // 512, "CHANNELS": 512, "SOURCES": merge.SOURCES}
NORM = {"ROWS": norm.ELEMENTS // 512, "WIDTH": 512, "SEGMENT": norm.SEGMENT}
WIDEST = {"ROWS": 1, "WIDTH": 8192, "SEGMENT": norm.SEGMENT, "WARPS": 16}
# kernel, choices, an instruction that must be there
COMPILED = [
    (scan._scan_forward, FORWARD, "ex2.approx"),
    (scan_backward._scan_backward, BACKWARD, "ex2.approx"),
    (conv._conv_forward, CONV, "ex2.approx"),
    (conv._conv_backward, CONV | {"SEGMENT": conv.CONV_SEGMENT, "WARPS": 1}, "ex2.approx"),
    (nearest._nearest, PRODUCTS | {"PRECISION": "ieee"}, "fma.rn.f32"),
    (nearest._nearest, PRODUCTS | {"PRECISION": "tf32"}, "mma.sync"),
    (nearest._nearest, DIFFERENCES | {"PRECISION": "ieee", "DISTANCE": "l1"}, "abs.f32"),
    (nearest._nearest, DIFFERENCES | {"PRECISION": "ieee", "DISTANCE": "l2"}, "sqrt.rn"),
    (pairs._split, {"FIXED": 1, "ROWS": pairs.SPLIT_ROWS}, "__assertfail"),
    (pairs._rank, {"ROWS": pairs.RANKED, "OTHERS": pairs.OTHERS}, "setp.gt"),
    (merge._merge, MERGE, "__assertfail"),
    (merge._merge_backward, MERGE, "__assertfail"),
    (norm._add_norm, NORM, "rsqrt.approx"),
    (norm._add_norm_backward, NORM, "rsqrt.approx"),
    (norm._add_norm_backward, WIDEST, "rsqrt.approx"),
]
OPTIONAL = {
    *("skip_ptr", "gate_ptr", "bias_ptr", "dskip_ptr", "dgate_ptr", "dbias_ptr"),
    *("a_at_ptr", "b_at_ptr", "residual_ptr", "before_ptr"),
}
POSITIONS = {
    *("a_at_ptr", "b_at_ptr", "index_ptr", "protected_ptr", "partner_ptr", "candidates_ptr", "targets_ptr"),
    *("source_ptr", "target_ptr", "ranked_ptr", "kept_ptr"),
}


def type_of(argument, kernel):
    if argument == "eps":
        return "fp32"
    if not argument.endswith("_ptr"):
        return "i32"
    if argument in POSITIONS and kernel is not scan_backward._scan_backward:  # what that one keeps are states
        return "*i64"
    half = argument.startswith(("u", "x", "a_", "b_", "values", "grad", "normed")) and argument != "grad_stream_ptr"
    return "*bf16" if half else "*fp32"


@pytest.mark.parametrize("optional", [True, False], ids=["everything", "bare"])
@pytest.mark.parametrize(
    ("kernel", "choices", "instruction"), COMPILED, ids=[f"{k.__name__}-{x}" for k, _, x in COMPILED]
)
def test_compiles_for_an_h200(kernel, choices, instruction, optional, tmp_path, monkeypatch):
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    arguments = list(inspect.signature(kernel.fn).parameters)
    if not optional and not OPTIONAL & set(arguments):
        pytest.skip("has no optional operands")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    chosen = choices if optional else choices | dict.fromkeys(OPTIONAL)
    constants = {x: chosen[x] for x in arguments if x in chosen}
    types = {x: "constexpr" if x in constants else type_of(x, kernel) for x in arguments}
    source = ASTSource(kernel, types, constexprs=constants)
    asserting = instruction == "__assertfail"
    options = {"num_warps": choices.get("WARPS", 4), "debug": asserting, "sanitize_overflow": False}
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options | {"enable_fp_fusion": True})
    assert instruction in compiled.asm["ptx"]
