"""A model and its rival over image sizes: all times, and from which size on the model is the faster one.

The rival is as fast as its fastest engine at each size. Two variants are compared round by round; one is called faster
only if three quarters of the rounds agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rmeeto.models.inference.explanation import Explanation
from rmeeto.runtime.doctor import Machine
from rmeeto.speed.report import Spread

Setting = tuple[int, str]
"""Batch size and precision."""


@dataclass(frozen=True)
class Timing:
    """One variant at one image size, batch size and precision.

    variant: of our model the reduction's line, ``none`` unreduced; of the rival its engine. ours: which of the two.
    milliseconds: of one batch, by round; empty if it was not measured. absent: why not, else None.
    tokens: leaving the last block, of our model. way: which way our model went.
    difference: of the rival's logits from PyTorch's in float32, as a share of the largest one.
    """

    size: int
    batch: int
    precision: str
    model: str
    variant: str
    ours: bool
    milliseconds: tuple[float, ...] = ()
    absent: str | None = None
    tokens: int | None = None
    way: Explanation | None = None
    difference: float | None = None

    @property
    def latency_ms(self) -> Spread:
        """Of one batch."""
        return Spread.of(self.milliseconds)

    @property
    def ms_per_image(self) -> float:
        """The median."""
        return self.latency_ms.median / self.batch

    @property
    def label(self) -> str:
        """Model and variant."""
        return f"{self.model}, {'unreduced' if self.variant == 'none' else self.variant}"


@dataclass(frozen=True)
class AgainstReport:
    """All timings, and where they were made.

    impl: the kernels that ran our model. rounds: fewest over the settings. versions: of torch, timm and the engines.
    """

    model: str
    rival: str
    impl: str
    rounds: int
    versions: dict[str, str | None]
    machine: Machine
    timings: tuple[Timing, ...]

    @property
    def sizes(self) -> list[int]:
        """Image sizes in pixels, rising."""
        return sorted({one.size for one in self.timings})

    def settings(self) -> list[Setting]:
        """Batch sizes and precisions, in order."""
        return list(dict.fromkeys((one.batch, one.precision) for one in self.timings))

    def at(self, setting: Setting, size: int) -> tuple[Timing, ...]:
        """All variants there, the measured and the absent."""
        return tuple(one for one in self.timings if (one.batch, one.precision) == setting and one.size == size)

    def fastest_rival(self, setting: Setting, size: int) -> Timing:
        """The rival in the engine with the least median. PyTorch is always measured."""
        rivals = (one for one in self.at(setting, size) if not one.ours and one.absent is None)
        return min(rivals, key=lambda one: one.ms_per_image)

    def speedup(self, timing: Timing) -> Spread:
        """How many times faster a variant is than the rival's fastest engine, by pairs of the same round."""
        rival = self.fastest_rival((timing.batch, timing.precision), timing.size)
        return Spread.of([theirs / own for theirs, own in zip(rival.milliseconds, timing.milliseconds, strict=True)])

    def ours(self, setting: Setting) -> list[list[Timing]]:
        """For each reduction, our model at every size."""
        lines = dict.fromkeys(one.variant for one in self.timings if one.ours)
        everything = [one for size in self.sizes for one in self.at(setting, size) if one.ours]
        return [[one for one in everything if one.variant == line] for line in lines]

    def sentences(self, setting: Setting) -> list[str]:
        """One on each of our variants: from which size on it is faster than the rival."""
        return [self._sentence(curve) for curve in self.ours(setting)]

    def crossover(self, curve: Sequence[Timing]) -> int | None:
        """The least size from which on all sizes are faster than the rival; None if the largest is not."""
        start = None
        for one in reversed(curve):
            if self.speedup(one).lower <= 1:
                break
            start = one.size
        return start

    def _sentence(self, curve: Sequence[Timing]) -> str:
        setting, start = (curve[0].batch, curve[0].precision), self.crossover(curve)
        faster = [one.size for one in curve if self.speedup(one).lower > 1]
        if start is not None:
            every = f"at every measured size, from {start} px on" if start == curve[0].size else f"from {start} px on"
        elif faster:
            every = f"only at {_listed(faster)} px and not beyond"
        else:
            every = "at no measured size"
        ratios = ", ".join(
            f"{self.speedup(one).median:.2f}× at {one.size} px ({self.fastest_rival(setting, one.size).variant})"
            for one in curve
        )
        missing = dict.fromkeys(
            one.variant for size in self.sizes for one in self.at(setting, size) if one.absent is not None
        )
        unmeasured = f"; not measured: {', '.join(missing)}" if missing else ""
        return f"{curve[0].label}: faster than {self.rival} in its fastest engine {every}: {ratios}{unmeasured}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values: every round, the spreads and speed-ups beside them, and the sentences."""
        rows = []
        for one in self.timings:
            measured = one.absent is None
            spreads = {
                "latency_ms": asdict(one.latency_ms) if measured else None,
                "ms_per_image": one.ms_per_image if measured else None,
                "speedup_over_fastest_rival": asdict(self.speedup(one)) if measured else None,
            }
            rows.append({**asdict(one), **spreads})
        verdicts = [
            {
                "batch": setting[0],
                "precision": setting[1],
                "variant": curve[0].variant,
                "faster_from_px": self.crossover(curve),
                "sentence": self._sentence(curve),
            }
            for setting in self.settings()
            for curve in self.ours(setting)
        ]
        return {**asdict(self), "timings": rows, "verdicts": verdicts}


def _listed(sizes: Sequence[int]) -> str:
    return " and ".join(filter(None, [", ".join(map(str, sizes[:-1])), str(sizes[-1])]))
