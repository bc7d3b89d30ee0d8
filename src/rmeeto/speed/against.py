"""Measure a model and a rival over image sizes, in one run in which all variants of a setting take turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from rmeeto.models.description import describe
from rmeeto.models.factory import create_model
from rmeeto.models.inference.freezing import freeze
from rmeeto.models.reducible import ReducibleModel
from rmeeto.ops.select import Impl
from rmeeto.reduction import Reduction
from rmeeto.runtime.devices import ActualPrecision, backend, find_precision
from rmeeto.runtime.doctor import machine, version
from rmeeto.runtime.progress import SILENT, Progress
from rmeeto.speed.crossover import AgainstReport, Timing
from rmeeto.speed.engines import ENGINES, Engine, Task, absence
from rmeeto.speed.entries import Entry, own_entry, rival_entry
from rmeeto.speed.rival import build_rival, check_size, find_rival, onnx_file
from rmeeto.speed.run import refuse_varying, under
from rmeeto.speed.timing import Clock, Stopwatch, take_turns

CPU = torch.device("cpu")
PACKAGES = ("torch", "timm", "onnx", "onnxruntime", "openvino")
SEED = 0  # of the rival's weights and of the images


class SecondPass(Stopwatch):
    """Times the second of two passes in a row. In the first, an engine's threads wake up and its weights are cached.

    Without it the engine that ran before would decide part of the time: its threads may still wait for work.
    """

    def seconds(self, work: Callable[[], object]) -> float:
        """How long ``work()`` takes right after ``work()``."""
        work()
        return super().seconds(work)


@dataclass(frozen=True)
class Turns:
    """How the variants of a setting are timed; :func:`bench_against` explains the fields."""

    rounds: int
    budget_seconds: float
    clock: Clock
    progress: Progress

    def timed(self, entries: Sequence[Entry]) -> Iterator[Timing]:
        """Every entry's timing, with its times."""
        works = [entry.work for entry in entries if entry.work is not None]
        first = entries[0].timing
        description = f"{first.size} px, batch {first.batch}, {first.precision}"
        with self.progress.task(description, len(works) * (1 + self.rounds)) as task:
            for work in works:
                work()
                task.advance()
            stopwatch = SecondPass(CPU, self.clock)
            budget = self.budget_seconds
            times = take_turns(works, stopwatch, rounds=self.rounds, budget_seconds=budget, tick=task.advance)
        found = iter(times)
        for entry in entries:
            seconds = [] if entry.work is None else next(found)
            yield replace(entry.timing, milliseconds=tuple(1e3 * each for each in seconds))


@dataclass(frozen=True)
class Contest:
    """What is the same for all settings: the names, the rival's engines and how turns are taken."""

    model: str
    rival: str
    engines: tuple[type[Engine], ...]
    turns: Turns

    def measure(
        self,
        variants: Sequence[ReducibleModel],
        rival: nn.Module,
        batch: int,
        precisions: Sequence[ActualPrecision],
    ) -> Iterator[Timing]:
        """Every precision at one size and batch. The rival's file is written once."""
        images, rival_images = noise(batch, variants[0])
        with self._file(rival, rival_images, precisions) as file:
            with torch.inference_mode():
                truth = rival(rival_images)
            for precision in precisions:
                task = Task(rival, rival_images, file, precision, torch.get_num_threads())
                ours = [own_entry(self.model, variant, images, precision) for variant in variants]
                theirs = [rival_entry(self.rival, engine, task, truth) for engine in self.engines]
                yield from self.turns.timed([*ours, *theirs])

    def _file(
        self, rival: nn.Module, images: Tensor, precisions: Sequence[ActualPrecision]
    ) -> AbstractContextManager[Path | None]:
        """The rival as a file, if an engine that can run reads one."""
        readers = [engine for engine in self.engines if engine.reads_onnx]
        if any(absence(engine, precision) is None for engine in readers for precision in precisions):
            return onnx_file(self.rival, rival, images)
        return nullcontext()


def bench_against(
    name: str,
    reductions: Sequence[Reduction],
    rival: str,
    *,
    sizes: Sequence[int] = (224, 384, 512, 768),
    batches: Sequence[int] = (1,),
    precisions: Sequence[str] = ("float32",),
    impl: Impl = "auto",
    rounds: int = 20,
    budget_seconds: float = 30.0,
    clock: Clock = time.perf_counter,
    engines: Sequence[type[Engine]] = ENGINES,
    progress: Progress = SILENT,
) -> AgainstReport:
    """Measure a model, unreduced and under every reduction, and a rival in every engine, on this processor.

    Images are noise, and named models have random weights: the work depends on neither. Every engine has PyTorch's
    number of threads. Before it is timed, each engine's logits are compared with PyTorch's.

    name: of our model. rival: one of timm's Vision Transformers, or deit_tiny, deit_small, deit_base.
    sizes: of square images, in pixels. batches: images per forward pass. precisions: float32, bfloat16 (our model by
    autocast, the rival as its engine does it). impl: kernels of our model. rounds: timed passes per variant and
    setting, each right after an untimed one. budget_seconds: stop a setting's rounds, after the fifth, when this long
    has been spent on them. clock: seconds that only grow. engines: what runs the rival, PyTorch among them; one that
    cannot run has a row that says why. progress: what receives messages.

    Raises:
        UnknownName: no such model, rival or precision.
        ConfigError: sizes that patches do not fill, a rival that is no Vision Transformer, a reduction that does not
            fit or whose work depends on the images.
        RunError: an engine that fails, or computes something else than PyTorch.

    >>> report = bench_against("vim_small", [TokenMerge(ratio=0.31)], "deit_small", sizes=(224, 384))
    >>> for sentence in report.sentences((1, "float32")):
    ...     print(sentence)
    """
    refuse_varying(reductions)
    described, other = describe(name), find_rival(rival)
    sizes = sorted(set(sizes))
    for size in sizes:
        check_size(described.name, described.config, size)
        check_size(other.name, other.config, size)
    actual_precisions = [find_precision(each, CPU) for each in precisions]
    contest = Contest(described.name, other.name, tuple(engines), Turns(rounds, budget_seconds, clock, progress))
    timings: list[Timing] = []
    for size in sizes:
        with _size_in_errors(size):
            model = freeze(create_model(name, reduction="none", impl=impl, img_size=(size, size)))
            variants = [under(reduction, model) for reduction in (None, *reductions)]
            opponent = build_rival(other.name, size, seed=SEED)
            for batch in batches:
                timings += contest.measure(variants, opponent, batch, actual_precisions)
    return AgainstReport(
        model=described.name,
        rival=other.name,
        impl=backend(impl, CPU),
        rounds=min(len(one.milliseconds) for one in timings if one.absent is None),
        versions={package: version(package) for package in PACKAGES},
        machine=machine(),
        timings=tuple(timings),
    )


def noise(batch: int, model: ReducibleModel) -> tuple[Tensor, Tensor]:
    """Random images for our model, and for the rival, which sees three channels."""
    channels, height, width = model.config.input_size
    generator = torch.Generator().manual_seed(SEED)
    images = torch.randn(batch, max(channels, 3), height, width, generator=generator)
    return images[:, :channels].contiguous(), images[:, :3].contiguous()


@contextmanager
def _size_in_errors(size: int) -> Iterator[None]:
    """A block whose exceptions name the image size."""
    try:
        yield
    except Exception as error:
        error.add_note(f"at {size} px; --sizes chooses the image sizes")
        raise
