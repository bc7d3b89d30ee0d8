"""Results of a benchmark, and a verdict: a sentence that says whether a reduction pays.

A verdict calls a model faster or slower only if three quarters of the rounds agree.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from rmeeto.models.inference.explanation import Explanation
from rmeeto.runtime.doctor import Machine

Running = Literal["eager", "compiled", "recorded"]

NOISY = 1.2  # if the quartiles are further apart, the rounds disagree too much for a verdict


@dataclass(frozen=True)
class Spread:
    """A median between its quartiles."""

    median: float
    lower: float
    upper: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The quartiles of at least two values, the extremes included."""
        lower, median, upper = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, lower, upper)


@dataclass(frozen=True)
class Measurement:
    """One variant at one batch size and precision.

    reduction: its line, ``none`` for the unreduced model. tokens: leaving the last block.
    gflops_exact, gflops_paper: per image. latency_ms: of one batch.
    speedup: over the unreduced model in the same round; flops_speedup: what the exact FLOPs predict.
    reduction_share: share of a forward pass spent in the reduction, from separate passes in which every reduction step
        is timed (and, on a GPU, waited for); None when not eager, because steps cannot be timed then.
    peak_memory_mib: what the model and one batch need beyond the bare process (on a processor, in a new process) or on
        the device; None if it cannot be measured.
    way: which way the model went, and what stopped a faster one; None if PyTorch compiled it.
    """

    reduction: str
    batch: int
    precision: str
    tokens: int
    reduction_ratio: float
    gflops_exact: float
    gflops_paper: float
    latency_ms: Spread
    images_per_second: Spread
    speedup: Spread
    flops_speedup: float
    reduction_share: float | None
    peak_memory_mib: float | None
    way: Explanation | None = None

    @property
    def faster(self) -> bool:
        """Whether three quarters of the rounds were faster than the unreduced model."""
        return self.speedup.lower > 1

    @property
    def slower(self) -> bool:
        """Whether three quarters of the rounds were slower."""
        return self.speedup.upper < 1


@dataclass(frozen=True)
class BenchReport:
    """All measurements, and the machine they were made on.

    impl: the kernels that ran. running: eager, compiled or recorded. rounds: fewest over the settings.
    """

    model: str
    device: str
    impl: str
    running: Running
    rounds: int
    torch: str
    machine: Machine
    measurements: tuple[Measurement, ...]

    def settings(self) -> list[tuple[Measurement, ...]]:
        """The measurements, grouped by batch size and precision."""
        keys = dict.fromkeys((m.batch, m.precision) for m in self.measurements)
        return [tuple(m for m in self.measurements if (m.batch, m.precision) == key) for key in keys]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, the verdicts beside their measurements."""
        rows = [{**asdict(m), "verdict": verdict(m, setting)} for setting in self.settings() for m in setting]
        return {**asdict(self), "measurements": rows}


def verdict(measured: Measurement, setting: Sequence[Measurement]) -> str | None:
    """One sentence on whether a reduction pays, from all measurements at its setting; None for the unreduced model."""
    if measured.reduction == "none":
        return None
    speedup, promise = measured.speedup, f"FLOPs promise {measured.flops_speedup:.2f}×"
    if measured.faster:
        return f"{speedup.median:.2f}× faster than the unreduced model; {promise}"
    if measured.slower:
        return f"{1 / speedup.median:.2f}× slower than the unreduced model; {promise}; {break_even(setting)}"
    between = f"{speedup.lower:.2f} to {speedup.upper:.2f}×"
    if speedup.upper > NOISY * speedup.lower:
        return f"the rounds disagree ({between}), so nothing can be said; {promise}; measure on a quieter machine"
    return f"as fast as the unreduced model ({between}); {promise}; {break_even(setting)}"


def break_even(setting: Sequence[Measurement]) -> str:
    """From which of the measured reductions on it pays."""
    paying = [m for m in setting if m.faster]
    if not paying:
        return "nothing measured here pays: reduce more, at fewer blocks (blocks=6::6), or larger batches"
    return f"break-even at {min(paying, key=lambda m: m.reduction_ratio).reduction}"
