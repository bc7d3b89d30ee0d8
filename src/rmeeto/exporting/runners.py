"""Runtimes as the gate sees them: a batch of inputs goes in, logits and plans come out."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from rmeeto.errors import ConfigError
from rmeeto.exporting.trace import LOGITS

Array = NDArray[Any]


@dataclass(frozen=True)
class Answer:
    """What a runtime gives for a batch.

    logits: ``(b, classes)``. places: by reducing block, in order, the output place of every token that enters it,
    ``(b, l)``, -1 where it is dropped.
    """

    logits: Array
    places: Mapping[int, Array]


class Runner(Protocol):
    """One exported model in one runtime, at one precision.

    runtime, precision: names for the report. gated: whether a difference fails the export; otherwise it is reported.
    load_seconds: from the file to a model that is ready. file: what was loaded.
    """

    @property
    def runtime(self) -> str: ...  # noqa: D102
    @property
    def precision(self) -> str: ...  # noqa: D102
    @property
    def gated(self) -> bool: ...  # noqa: D102
    @property
    def load_seconds(self) -> float: ...  # noqa: D102
    @property
    def file(self) -> Path: ...  # noqa: D102

    def logits(self, batch: Array) -> Array:
        """Logits by the file as it is shipped."""
        ...

    def answer(self, batch: Array) -> Answer:
        """Logits by the file, and the plans of the same graph."""
        ...


@dataclass(frozen=True)
class Compiled:
    """A runner made of two functions: of the shipped file, and of the same graph with its plans as further results.

    blocks: the reducing blocks, whose plans follow the logits. numbers: inputs at a time, None for any number.
    """

    runtime: str
    precision: str
    gated: bool
    load_seconds: float
    file: Path
    shipped: Callable[[Array], Sequence[Array]]
    probed: Callable[[Array], Sequence[Array]]
    blocks: tuple[int, ...]

    def logits(self, batch: Array) -> Array:
        """Logits by the file as it is shipped."""
        return self.shipped(batch)[0]

    def answer(self, batch: Array) -> Answer:
        """Logits by the file, and the plans of the same graph."""
        places = self.probed(batch)[1:] if self.blocks else ()
        return Answer(self.logits(batch), dict(zip(self.blocks, places, strict=True)))


def onnx_runtime(file: Path, probe: bytes, blocks: tuple[int, ...]) -> Compiled:
    """ONNX Runtime on a processor."""
    import onnxruntime

    def opened(source: str | bytes) -> Callable[[Array], Sequence[Array]]:
        session = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
        return lambda batch: session.run(None, {"images": batch})

    start = time.perf_counter()
    shipped = opened(str(file))
    seconds = time.perf_counter() - start
    return Compiled("ONNX Runtime", "float32", True, seconds, file, shipped, opened(probe), blocks)


def openvino(file: Path, probe: bytes, blocks: tuple[int, ...], precision: str | None) -> Compiled:
    """OpenVINO on a processor. precision: ``f32``, or None for what OpenVINO chooses, which is never gated."""
    import openvino as ov

    core = ov.Core()
    settings = {} if precision is None else {"INFERENCE_PRECISION_HINT": precision}

    def opened(source: str | bytes) -> tuple[Any, Callable[[Array], Sequence[Array]]]:
        model = core.read_model(source) if isinstance(source, str) else core.read_model(model=source)
        compiled = core.compile_model(model, "CPU", settings)
        return compiled, lambda batch: [np.array(compiled(batch)[result]) for result in compiled.outputs]

    start = time.perf_counter()
    compiled, shipped = opened(str(file))
    seconds = time.perf_counter() - start
    chosen = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    named = "float32" if precision == "f32" else f"default ({ {'f32': 'float32'}.get(chosen, chosen) })"
    return Compiled("OpenVINO", named, precision == "f32", seconds, file, shipped, opened(probe)[1], blocks)


def program(file: Path, probe: torch.export.ExportedProgram, blocks: tuple[int, ...], runtime: str) -> Compiled:
    """A saved program in PyTorch. probe: the same with all its results; the source map among them is left out."""

    def opened(loaded: torch.export.ExportedProgram) -> Callable[[Array], Sequence[Array]]:
        module = loaded.module()

        def run(batch: Array) -> Sequence[Array]:
            with torch.no_grad():
                results = module(torch.from_numpy(batch))
            return [result.numpy() for result in results]

        return run

    start = time.perf_counter()
    shipped = opened(torch.export.load(file))
    seconds = time.perf_counter() - start
    everything = opened(probe)

    def probed(batch: Array) -> Sequence[Array]:
        first, _, *places = everything(batch)
        return [first, *places]

    return Compiled(runtime, "float32", True, seconds, file, shipped, probed, blocks)


def onnx_runners(file: Path, probe: bytes, blocks: tuple[int, ...]) -> list[Compiled]:
    """Every installed runtime for an ONNX file: what is gated first.

    Raises:
        ConfigError: none is installed.
    """
    found = []
    if is_installed("onnxruntime"):
        found.append(onnx_runtime(file, probe, blocks))
    if is_installed("openvino"):
        found += [openvino(file, probe, blocks, precision) for precision in ("f32", None)]
    if not found:
        raise ConfigError(
            "check the exported model",
            why="neither onnxruntime nor openvino is installed",
            fix='pip install "rmeeto[export]"',
        )
    return found


def is_installed(package: str) -> bool:
    """Whether a package can be imported."""
    return importlib.util.find_spec(package) is not None


__all__ = ["LOGITS", "Answer", "Compiled", "Runner", "is_installed", "onnx_runners", "program"]
