"""The main figures of each benchmark, as (what, figure) rows of `all.py`'s table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

Result = dict[str, Any]
Row = tuple[str, str]


def milliseconds(times: Result) -> str:
    return f"{times['median_ms']:.2f} ms ({times['lower_quartile_ms']:.2f} … {times['upper_quartile_ms']:.2f})"


def against(times: dict[str, Result], ours: str) -> Iterator[Row]:
    """Our time, and the ratio of each other candidate's median to it."""
    yield ours, milliseconds(times[ours])
    for name, theirs in times.items():
        if name != ours:
            yield f"{ours} against {name}", f"{theirs['median_ms'] / times[ours]['median_ms']:.1f}×"


def of_operation(result: Result) -> Iterator[Row]:
    for passes, times in result["times"].items():
        for what, figure in against(times, next(iter(times))):
            yield f"{passes}: {what}", figure


def of_reduction(result: Result) -> Iterator[Row]:
    for matching, powers in result["exponents"].items():
        yield f"{matching}: time and memory grow with tokens to the", f"{powers['median_ms']}, {powers['grown_mib']}"
    most = max(row["tokens"] for row in result["rows"])
    for row in result["rows"]:
        if row["tokens"] == most:
            yield f"{row['matching']}: share of a forward pass, {most:,} tokens", f"{row['share_of_forward']:.1%}"


def of_model(result: Result) -> Iterator[Row]:
    for report in result["reports"]:
        for row in report["measurements"]:
            setting = f"{report['model']}, {report['running']}, batch {row['batch']}, {row['precision']}"
            if row["reduction"] == "none":
                yield setting, f"{row['images_per_second']['median']:,.1f} images/s"
                continue
            speedup, promise = row["speedup"]["median"], row["flops_speedup"]
            yield (
                f"{setting}, {row['reduction']}",
                f"{speedup:.2f}× of {promise:.2f}× promised ({speedup / promise:.0%})",
            )


def of_training(result: Result) -> Iterator[Row]:
    size = f"{result['model']}, {'×'.join(map(str, result['shape']))}, {result['dtype']}"
    for what, figure in against(result["step"], "kernels"):
        yield f"{size}: {what}", figure
    yield f"{size}: kernels", f"{result['images_per_second']['kernels']:,.1f} images/s"
    if composed := result["textbook_step_put_together_ms"]:
        ours = result["step"]["kernels"]["median_ms"]
        yield f"{size}: kernels against textbook loop, put together", f"{composed / ours:.0f}×"
    for name, mib in result["grown_mib"].items():
        yield f"{size}: peak memory of a step, {name}", "unknown" if mib is None else f"{mib:,.0f} MiB"
    losses = result["losses"]
    yield f"{size}: losses of {losses['steps']} steps differ by", f"{losses['largest_difference']:.1e}"


def of_growth(result: Result) -> Iterator[Row]:
    for name, axis in result["axes"].items():
        for series, powers in axis["exponents"].items():
            where = f"{name} ({axis['unit']}), {series}: time and memory grow with the power"
            yield where, f"{powers['median_ms']}, {powers['grown_mib']}"
    held = result["against_two_blocks"]
    yield f"peak at {held['tokens']:,} tokens, in activations of two blocks", f"{held['multiple']}×"


def of_busy(result: Result) -> Iterator[Row]:
    for row in result["rows"]:
        if row["neighbours"]:
            what = f"{row['what']}, {row['neighbours']} busy neighbours: multiple of the quiet time"
            yield what, f"{row['multiple']:.2f} (fair {row['fair_multiple']:.2f})"


def of_gpu_check(result: Result) -> Iterator[Row]:
    yield "tensors checked, wrong", f"{result['tensors_checked']}, {len(result['wrong'])}"
    for row in result["rows"]:
        if not row["tile"]:
            what = f"{row['op']}, {row['what']}, {'×'.join(map(str, row['shape']))}, {row['dtype']}"
            yield what, f"{row['median_ms']:.3f} ms, {row['least_gb_per_second']:,.0f} GB/s at least"


HEADLINES: dict[str, Callable[[Result], Iterator[Row]]] = {
    "scan": of_operation,
    "conv": of_operation,
    "reduction": of_reduction,
    "model": of_model,
    "training": of_training,
    "growth": of_growth,
    "busy": of_busy,
    "gpu_check": of_gpu_check,
}
