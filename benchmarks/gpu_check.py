"""Check every Triton kernel on this CUDA device, then time it: the first thing to run on a new GPU.

    python benchmarks/gpu_check.py            check, time, write benchmarks/results/gpu_check-DATE.json
    python benchmarks/gpu_check.py --sweep    also time other tiles, to better the rules that pick them

What is checked, and against what, is in `_gpu_cases`. Times are CUDA events around one call each, after a warm-up,
with the second-level cache overwritten in between: median and quartiles. *call* is a call from Python, whose
launches may take longer than their work; *graph* replays the same call from a CUDA graph, which gives the device's
time alone; *plain* is the call in plain PyTorch. Rates are the graph's, relative to the least memory traffic of the
call. Exits with 1 if a kernel is wrong and with 2 if there is no CUDA device.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

import torch

from _gpu_cases import DEVICE, OPERATIONS, find_nearest, selective_scan

RESULTS = Path(__file__).parent / "results"
# b, l, width: few and many programs, ragged and whole tiles
CHECKED = [(2, 3, 40), (3, 7, 33), (2, 63, 96), (8, 197, 768), (1, 1569, 72)]
SINGLE = (2, 1, 40)  # one token: nothing to match, all the rest must work
TIMED = {
    "selective_scan": [(128, 197, 768), (16, 1569, 1152)],  # Vim-S at 224 × 224; VideoMamba-M with 8 frames
    "bidirectional_scan": [(128, 197, 768), (16, 1569, 1152)],
    "causal_conv": [(128, 197, 768), (16, 1569, 1152)],
    "add_norm": [(128, 197, 384), (16, 1569, 576)],
    "merge_rows": [(128, 197, 384), (16, 1569, 576)],
    "find_nearest": [(128, 196, 384), (16, 1568, 576), (1, 12544, 192)],
    "closest_pairs": [(128, 197, 384), (16, 1569, 576), (1, 12545, 192)],
}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
HEADER = f"{'op':14} {'pass':16} {'shape':16} {'dtype':9} {'graph ms':>8} [quartiles]     {'call':>7} {'plain':>8} GB/s"


def wrong_results(kernels, op, shapes, dtypes):
    """Return how many results were checked, and a description of each that is outside its budget."""
    build, variants, _ = OPERATIONS[op]
    checked, wrong = 0, []
    for shape, (name, dtype), variant in product(shapes, dtypes.items(), variants):
        found = build(kernels, shape, dtype, **variant).check()
        checked += len(found)
        described = {"op": op, "shape": shape, "dtype": name, **variant}
        wrong += [{**described, "result": result, "excess": x} for result, x in found.items() if x > 0]
    return checked, wrong


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


def graph_of(call):
    """Return a CUDA graph of one call, which has run before."""
    call()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph


def measure(case, passes, repeats, plain=True):
    """Return the figures of one row of the table for some passes of a case, one after another."""

    def run(calls):
        for name in passes:
            calls[name]()

    low, median, high = time_ms(graph_of(lambda: run(case.calls)).replay, repeats)
    moved = sum(case.least_bytes[name] for name in passes)
    figures = {
        "graph_median_ms": median,
        "graph_quartiles_ms": [low, high],
        "call_median_ms": time_ms(lambda: run(case.calls), repeats)[1],
        "least_gb_per_second": moved / median / 1e6,
    }
    if plain and case.plain:
        figures["plain_median_ms"] = time_ms(lambda: run(case.plain), max(repeats // 5, 2))[1]
    return figures


def timed_rows(kernels, repeats):
    """Yield the rows of the table."""
    for op, (build, _, variants) in OPERATIONS.items():
        for shape, variant, name in product(TIMED[op], variants, ("bfloat16", "float32")):
            case = build(kernels, shape, DTYPES[name], **variant)
            for passes in (["forward"], ["forward", "backward"])[: len(case.calls)]:
                described = {"op": op, "pass": "+".join(passes), "shape": shape, "dtype": name, **variant}
                yield described | measure(case, passes, repeats)


def swept_rows(kernels, repeats):
    """Yield rows for tiles worth a try; one that spills registers shows as slow, not as wrong."""
    from triton.runtime.errors import OutOfResources

    from rmeeto.ops.impl.triton.nearest import Tile as ProductTile
    from rmeeto.ops.impl.triton.tile import Tile as ScanTile

    tiles = [("forward", *t, 1, w) for w in (1, 2, 4) for t in ((8, 8), (4, 8), (2, 8), (1, 32))]
    tiles += [("backward", r, 8, chunk, w) for w in (1, 2, 4) for r in (4, 2) for chunk in (2, 4, 8)]
    for shape, (what, *sizes) in product(TIMED["selective_scan"], tiles):
        tile = ScanTile(*sizes)
        case = selective_scan(kernels, shape, torch.bfloat16, tile=tile)
        described = {"op": "selective_scan", "pass": what, "shape": shape, "dtype": "bfloat16", "tile": tile._asdict()}
        yield described | measure(case, [what], repeats, plain=False)

    products = [(r, c, f, w) for r in (32, 64) for c in (64, 128) for f in (32, 64) for w in (4, 8)]
    precisions = {"float32": ("ieee", "tf32x3"), "bfloat16": ("tf32",)}
    choices = [(name, precision) for name, those in precisions.items() for precision in those]
    for shape, (name, precision), sizes in product(TIMED["find_nearest"], choices, products):
        tile = ProductTile(*sizes)
        described = {"op": "find_nearest", "pass": "forward", "shape": shape, "dtype": name, "precision": precision}
        described["tile"] = tile._asdict()
        case = find_nearest(kernels, shape, DTYPES[name], tile=tile, precision=precision)
        try:
            yield described | measure(case, ["forward"], repeats, plain=False) | {"excess": case.check()}
        except OutOfResources as error:  # a tile may ask for more shared memory than there is
            print(f"  no {described}: {error}", file=sys.stderr)


def show(row):
    low, high = row["graph_quartiles_ms"]
    plain = f"{row['plain_median_ms']:8.3f}" if "plain_median_ms" in row else " " * 8
    told = ("op", "pass", "shape", "dtype", "excess")
    rest = " ".join(f"{k}={v}" for k, v in row.items() if k not in told and not k.endswith(("_ms", "_second")))
    print(
        f"{row['op']:14} {row['pass']:16} {row['shape']!s:16} {row['dtype']:9} {row['graph_median_ms']:8.3f} "
        f"[{low:.3f}, {high:.3f}] {row['call_median_ms']:7.3f} {plain} {row['least_gb_per_second']:6.0f}  {rest}",
        flush=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sweep", action="store_true", help="also time other tiles of the scan and the matching")
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

    checked, wrong = 0, []
    for op in OPERATIONS:
        matches = op in ("find_nearest", "closest_pairs")
        count, bad = wrong_results(kernels, op, CHECKED if matches else [SINGLE, *CHECKED], DTYPES)
        print(f"{op}: {count} results checked against float64, {len(bad)} outside the budget", flush=True)
        checked, wrong = checked + count, wrong + bad
    for case in wrong:
        print("  WRONG", json.dumps(case))

    print(HEADER)
    rows = []
    for timed in (timed_rows, swept_rows) if options.sweep else (timed_rows,):
        for row in timed(kernels, options.repeats):
            rows.append(row)
            show(row)

    RESULTS.mkdir(exist_ok=True)
    now = datetime.now(UTC)
    result = {
        "date": now.isoformat(timespec="seconds"),
        "device": device.name,
        "versions": versions,
        "results_checked": checked,
        "wrong": wrong,
        "rows": rows,
    }
    path = RESULTS / f"gpu_check-{now:%Y%m%d-%H%M%S}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written: {path}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
