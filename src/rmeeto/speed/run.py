"""Run a benchmark: every reduction at every batch size and precision, against the same unreduced model."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from rmeeto.cost import flops
from rmeeto.errors import ConfigError
from rmeeto.models.inference.cuda_graph import CudaGraph
from rmeeto.models.inference.explanation import Explanation, explain
from rmeeto.models.inference.freezing import freeze, install, is_frozen
from rmeeto.models.reducible import ReducibleModel
from rmeeto.reduction import Reduction
from rmeeto.runtime.devices import ActualPrecision, autocast, backend, find_device, find_precision
from rmeeto.runtime.doctor import machine
from rmeeto.runtime.progress import SILENT, Progress
from rmeeto.speed.memory import peak_memories_mib
from rmeeto.speed.report import BenchReport, Measurement, Running, Spread
from rmeeto.speed.timing import Clock, Stopwatch, reduction_share, take_turns

Forward = Callable[[Tensor], object]


def bench(
    model: ReducibleModel,
    reductions: Sequence[Reduction],
    *,
    name: str = "model",
    batches: Sequence[int] = (1, 8),
    precisions: Sequence[str] = ("float32",),
    running: Running = "eager",
    device: str = "auto",
    warmup: int = 3,
    rounds: int = 20,
    budget_seconds: float = 30.0,
    memory: bool = True,
    clock: Clock = time.perf_counter,
    progress: Progress = SILENT,
) -> BenchReport:
    """Measure the unreduced model and every reduction of it, on noise: the work does not depend on the images.

    model: its weights are used as they are; its own reduction is left alone. name: what the report calls it.
    reductions: what to compare with the unreduced model. batches: images per forward pass. precisions: float32,
    bfloat16 (autocast) or auto. running: ``eager``; ``compiled``, through ``torch.compile``, one graph per variant; or
    ``recorded``, as a CUDA graph (:class:`rmeeto.models.inference.cuda_graph.CudaGraph`). device: auto, cpu, cuda ….
    warmup, rounds: untimed and timed passes per variant and setting. budget_seconds: stop a setting's rounds, after
    the fifth, when this long has been spent on them. memory: also measure peak memory; on a processor this starts new
    processes. clock: seconds that only grow. progress: what receives messages.

    Raises:
        UnknownName: no such precision.
        ConfigError: no such device, or one that cannot record; a reduction that this model cannot have, or whose work
            depends on the images.
        RunError: peak memory could not be measured.

    >>> report = bench(create_model("vim_tiny"), [TokenMerge(r=11)])
    >>> report.measurements[1].speedup.median
    1.31
    """
    refuse_varying(reductions)
    torch_device = find_device(device)
    actual_precisions = [find_precision(name, torch_device) for name in precisions]
    model = freeze(model.to(torch_device))
    variants = [under(reduction, model) for reduction in (None, *reductions)]
    stopwatch = Stopwatch(torch_device, clock)
    measurements: list[Measurement] = []
    fewest = rounds
    for batch in batches:
        for precision in actual_precisions:
            images = torch.randn(batch, *model.config.input_size, device=torch_device)
            with torch.inference_mode(), autocast(torch_device, precision), runner(running) as ready:
                works = [partial(ready(variant, images), images) for variant in variants]
                with progress.task(f"batch {batch}, {precision}", len(works) * (warmup + rounds)) as task:
                    for work in works:
                        for _ in range(warmup):
                            work()
                            task.advance()
                    times = take_turns(
                        works, stopwatch, rounds=rounds, budget_seconds=budget_seconds, tick=task.advance
                    )
                ways = [way_of(variant, images, running) for variant in variants]
                shares = [
                    reduction_share(variant, images, stopwatch) if running == "eager" else None for variant in variants
                ]
            unknown: list[float | None] = [None] * len(variants)
            peaks = peak_memories_mib(variants, batch, precision, torch_device) if memory else unknown
            for variant, seconds, share, peak, way in zip(variants, times, shares, peaks, ways, strict=True):
                measured = measurement(variant, variants[0], batch, precision, seconds, times[0], share, peak)
                measurements.append(replace(measured, way=way))
            fewest = min(fewest, len(times[0]))
    return BenchReport(
        model=name,
        device=str(torch_device),
        impl=backend(model.impl, torch_device),
        running=running,
        rounds=fewest,
        torch=torch.__version__,
        machine=machine(),
        measurements=tuple(measurements),
    )


def refuse_varying(reductions: Sequence[Reduction]) -> None:
    """Raise :class:`ConfigError` if the work of a reduction depends on the images: noise would not show it."""
    for reduction in reductions:
        if reduction.varies:
            raise ConfigError(
                f"measure {reduction} on noise",
                why="the number of tokens that it removes depends on the images",
                fix="rmeeto eval measures accuracy, operations and speed on images",
            )


def under(reduction: Reduction | None, model: ReducibleModel) -> ReducibleModel:
    """The same weights under another reduction, frozen if the model is: a shallow copy, so no block is stored twice."""
    variant = copy.copy(model)
    variant.reduction = reduction
    if is_frozen(model):
        install(variant)  # a copy starts without an executor; its blocks are the model's
    return variant


@contextmanager
def runner(running: Running) -> Iterator[Callable[[ReducibleModel, Tensor], Forward]]:
    """Make a variant callable. Graphs are dropped at the end, so that they do not slow the next variant."""
    if running == "eager":
        yield lambda variant, images: variant
    elif running == "recorded":
        yield CudaGraph
    else:
        torch.compiler.reset()
        yield lambda variant, images: torch.compile(variant, fullgraph=True, dynamic=False)
        torch.compiler.reset()


def way_of(variant: ReducibleModel, images: Tensor, running: Running) -> Explanation | None:
    """Which way a variant goes; None if PyTorch compiles it."""
    if running == "compiled":
        return None
    return Explanation("recorded") if running == "recorded" else explain(variant, images)


def measurement(
    variant: ReducibleModel,
    whole: ReducibleModel,
    batch: int,
    precision: ActualPrecision,
    seconds: Sequence[float],
    whole_seconds: Sequence[float],
    share: float | None,
    peak: float | None,
) -> Measurement:
    """One variant's times beside the unreduced model's of the same rounds, and the speed-up that its FLOPs predict."""
    exact = flops(variant, convention="exact").total
    return Measurement(
        reduction=str(variant.reduction or "none"),
        batch=batch,
        precision=precision,
        tokens=variant.schedule.tokens[-1],
        reduction_ratio=variant.schedule.ratio,
        gflops_exact=exact / 1e9,
        gflops_paper=flops(variant, convention="paper").total / 1e9,
        latency_ms=Spread.of([1e3 * time for time in seconds]),
        images_per_second=Spread.of([batch / time for time in seconds]),
        speedup=Spread.of([whole / time for whole, time in zip(whole_seconds, seconds, strict=True)]),
        flops_speedup=flops(whole, convention="exact").total / exact,
        reduction_share=share,
        peak_memory_mib=peak,
    )
