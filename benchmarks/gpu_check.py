"""Check every Triton kernel on this CUDA device, then time it: the first thing to run on a new GPU.

    python benchmarks/gpu_check.py            check, time, write benchmarks/results/gpu_check-DATE.json
    python benchmarks/gpu_check.py --sweep    also time other tiles of the scan, to better the rule that picks them

Truth is the reference in float64. A kernel may be as wrong as the reference in the kernel's own dtype, plus two
roundings. Times are CUDA events around one call each, after a warm-up, with the second-level cache overwritten
in between: median and quartiles. Rates are against what the call must move through memory at least. Exits with 1
if a kernel is wrong and with 2 where there is no CUDA device.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from datetime import UTC, datetime
from pathlib import Path

import torch

from rmeeto.ops.impl import reference

RESULTS = Path(__file__).parent / "results"
DEVICE = "cuda"
STATES, TAPS = 16, 4
CHECKED = [(2, 1, 40), (3, 7, 33), (2, 63, 96), (8, 197, 768), (1, 1569, 72)]  # b, l, e: few and many programs
TIMED = [(128, 197, 768), (16, 1569, 1152)]  # Vim-S at 224 × 224; VideoMamba-M with 8 frames
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
SCAN_NAMES = ("u", "delta", "A", "B", "C", "skip", "gate", "delta_bias")
CONV_NAMES = ("x", "weight", "bias")


def operands(op, shape, dtype):
    """Draw what the operation takes, its gradient first; halves of one tensor where the model has such."""
    batch, length, width = shape
    draw = torch.Generator(DEVICE).manual_seed(0)

    def normal(*size):
        return torch.randn(size, generator=draw, device=DEVICE)

    grad = normal(batch, length, width).to(dtype)
    u, gate = normal(batch, length, 2 * width).to(dtype).chunk(2, dim=-1)
    if op == "causal_conv":
        return grad, (u, normal(width, 1, TAPS), normal(width))
    delta, bias, skip = normal(batch, length, width).to(dtype), normal(width) - 1, normal(width)
    B, C = normal(batch, length, 2 * STATES).to(dtype).chunk(2, dim=-1)
    return grad, (u, delta, -4 * normal(width, STATES).abs(), B, C, skip, gate, bias)


def wide(tensors):
    return [x.double() for x in tensors]


def check(kernels, op, shape, dtype, reverse):
    """Return for the output and each gradient by how many float32 roundings the budget is missed (0: kept)."""
    grad, given = operands(op, shape, dtype)
    flags = (True, reverse)  # softplus or SiLU
    names = ("out", *(SCAN_NAMES if op == "selective_scan" else CONV_NAMES))

    def run(module, grad, given):
        return getattr(module, op)(*given, *flags), *getattr(module, f"{op}_backward")(grad, *given, *flags)

    found, plain = run(kernels, grad, given), run(reference, grad, given)
    truth = run(reference, grad.double(), wide(given))
    return {name: excess(*three) for name, *three in zip(names, found, plain, truth, strict=True)}


def excess(found, plain, truth):
    unit, scale = torch.finfo(torch.float32).eps, truth.abs().amax()
    allowed = (plain.double() - truth).abs() + 2 * torch.finfo(found.dtype).eps * truth.abs() + 16 * unit * scale
    over = (found.double() - truth).abs() - allowed
    if found.dtype != plain.dtype or not over.isfinite().all():
        return float("inf")
    return float((over.clamp_min(0) / (unit * scale)).amax())


def time_ms(call, repeats):
    """Return the lower quartile, median and upper quartile of ``repeats`` calls in milliseconds."""
    cache = torch.empty(128 << 20, dtype=torch.uint8, device=DEVICE)  # larger than any second-level cache
    for _ in range(3):
        call()
    pairs = []
    for _ in range(repeats):
        cache.zero_()
        pair = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        pair[0].record()
        call()
        pair[1].record()
        pairs.append(pair)
    torch.cuda.synchronize()
    return statistics.quantiles([start.elapsed_time(end) for start, end in pairs], n=4)


def least_bytes(op, shape, dtype, backward):
    """Count what must pass through memory if every (b, l, e) tensor is read or written once per call."""
    batch, length, width = shape
    tensors = {"selective_scan": (4, 7), "causal_conv": (2, 3)}[op][backward]  # in and out, forward and backward
    return tensors * batch * length * width * dtype.itemsize


def measure(kernels, op, shape, dtype, what, repeats, tile=None):
    """Return one row of the table; ``what`` is forward, backward or forward+backward."""
    grad, given = operands(op, shape, dtype)
    flags = (True, False)
    options = {"tile": tile} if tile else {}

    def call():
        if "forward" in what:
            getattr(kernels, op)(*given, *flags, **options)
        if "backward" in what:
            getattr(kernels, f"{op}_backward")(grad, *given, *flags, **options)

    low, median, high = time_ms(call, repeats)
    moved = sum(least_bytes(op, shape, dtype, part == "backward") for part in what.split("+"))
    return {
        "op": op,
        "what": what,
        "shape": shape,
        "dtype": str(dtype).removeprefix("torch."),
        "tile": tile and tile._asdict(),
        "median_ms": median,
        "quartiles_ms": [low, high],
        "least_gb_per_second": moved / median / 1e6,
    }


def sweep():
    """Yield passes of the scan with tiles worth a try; one that spills registers shows as slow, not as wrong."""
    from rmeeto.ops.impl.triton.tile import Tile

    for warps in (1, 2, 4):
        for rows, lanes in ((8, 8), (4, 8), (2, 8), (1, 32)):
            yield "forward", Tile(rows, lanes, 1, warps)
        for rows in (4, 2):
            for chunk in (2, 4, 8):
                yield "backward", Tile(rows, 8, chunk, warps)


def show(row):
    low, high = row["quartiles_ms"]
    tile = "" if row["tile"] is None else " ".join(f"{k}={v}" for k, v in row["tile"].items())
    print(
        f"{row['op']:15} {row['what']:17} {row['shape']!s:17} {row['dtype']:9} {row['median_ms']:9.3f} "
        f"[{low:.3f}, {high:.3f}] {row['least_gb_per_second']:8.0f}  {tile}",
        flush=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sweep", action="store_true", help="also time other tiles of the scan")
    parser.add_argument("--repeats", type=int, default=50, help="timed calls per row (default 50)")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("gpu_check: there is no CUDA device on this machine, so nothing was checked", file=sys.stderr)
        return 2

    import triton

    from rmeeto.ops.impl import triton as kernels

    device = torch.cuda.get_device_properties(0)
    versions = {"torch": torch.__version__, "triton": triton.__version__, "cuda": torch.version.cuda}
    print(f"{device.name}, {device.multi_processor_count} multiprocessors, {versions}")

    wrong = []
    checks = 0
    for op in ("selective_scan", "causal_conv"):
        for shape in CHECKED:
            for name, dtype in DTYPES.items():
                for reverse in (False, True):
                    found = check(kernels, op, shape, dtype, reverse)
                    checks += len(found)
                    wrong += [
                        {"op": op, "shape": shape, "dtype": name, "reverse": reverse, "tensor": t, "excess": x}
                        for t, x in found.items()
                        if x > 0
                    ]
    print(f"{checks} tensors checked against float64, {len(wrong)} outside the budget")
    for case in wrong:
        print("  WRONG", json.dumps(case))

    print(f"{'op':15} {'pass':17} {'(b, l, e)':17} {'dtype':9} {'median ms':>9} [quartiles] GB/s at least  tile")
    rows = []
    for op in ("selective_scan", "causal_conv"):
        for shape in TIMED:
            for dtype in (torch.bfloat16, torch.float32):
                for what in ("forward", "forward+backward"):
                    rows.append(measure(kernels, op, shape, dtype, what, options.repeats))
                    show(rows[-1])
    if options.sweep:
        for shape in TIMED:
            for what, tile in sweep():
                rows.append(measure(kernels, "selective_scan", shape, torch.bfloat16, what, options.repeats, tile))
                show(rows[-1])

    RESULTS.mkdir(exist_ok=True)
    now = datetime.now(UTC)
    result = {
        "date": now.isoformat(timespec="seconds"),
        "device": device.name,
        "versions": versions,
        "tensors_checked": checks,
        "wrong": wrong,
        "rows": rows,
    }
    path = RESULTS / f"gpu_check-{now:%Y%m%d-%H%M%S}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written: {path}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
