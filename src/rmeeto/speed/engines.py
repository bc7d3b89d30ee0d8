"""Engines that run the rival: PyTorch itself, and two that read it as an ONNX file.

An engine is prepared for one batch, image size and precision, and then called again and again. All get the same number
of threads. Int8 is left out: it needs calibration on images, and what it loses cannot be seen with random weights.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import torch
from torch import Tensor, nn

from rmeeto.runtime.devices import ActualPrecision

INSTALL = 'pip install "rmeeto[engines]"'
EXPORT = ("onnx", "onnxscript")  # what torch.onnx.export imports


@dataclass(frozen=True)
class Task:
    """What an engine is prepared for.

    model: the rival in float32, in evaluation mode. images: ``(b, c, h, w)``, float32.
    file: the same model as ONNX for this shape; None if no engine that reads it is installed.
    """

    model: nn.Module
    images: Tensor
    file: Path | None
    precision: ActualPrecision
    threads: int


class Engine(Protocol):
    """A way to run the rival.

    name: as tables call it. packages: that it imports. reads_onnx: whether it needs the file.
    """

    name: ClassVar[str]
    packages: ClassVar[tuple[str, ...]]
    reads_onnx: ClassVar[bool]

    @staticmethod
    def why_not(precision: ActualPrecision) -> str | None:
        """Why the installed engine cannot compute in a precision here; None if it can."""
        ...

    @classmethod
    def prepare(cls, task: Task) -> Self:
        """Everything that is done once."""
        ...

    def __call__(self) -> Tensor:
        """One pass over the task's images: logits ``(b, classes)``."""
        ...


class PyTorch:
    """Eager, as timm runs it; for bfloat16 weights and images are cast once, as by timm's ``--precision bfloat16``."""

    name: ClassVar[str] = "PyTorch"
    packages: ClassVar[tuple[str, ...]] = ()
    reads_onnx: ClassVar[bool] = False

    def __init__(self, model: nn.Module, images: Tensor) -> None:
        self.model, self.images = model, images

    @staticmethod
    def why_not(precision: ActualPrecision) -> str | None:
        """Never."""
        return None

    @classmethod
    def prepare(cls, task: Task) -> Self:
        """The model itself, or a copy in bfloat16."""
        if task.precision == "float32":
            return cls(task.model, task.images)
        return cls(copy.deepcopy(task.model).bfloat16(), task.images.bfloat16())

    def __call__(self) -> Tensor:
        """Logits, in the precision."""
        with torch.inference_mode():
            logits: Tensor = self.model(self.images)
        return logits


class OnnxRuntime:
    """ONNX Runtime on the processor, all graph optimisations on."""

    name: ClassVar[str] = "ONNX Runtime"
    packages: ClassVar[tuple[str, ...]] = (*EXPORT, "onnxruntime")
    reads_onnx: ClassVar[bool] = True

    def __init__(self, run: Callable[..., Any], inputs: dict[str, Any]) -> None:
        self.run, self.inputs = run, inputs

    @staticmethod
    def why_not(precision: ActualPrecision) -> str | None:
        """It has no bfloat16 on a processor."""
        return "it has no bfloat16 on a processor" if precision == "bfloat16" else None

    @classmethod
    def prepare(cls, task: Task) -> Self:
        """A session whose threads stop waiting for work when a pass ends, so that they do not slow the next engine."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = task.threads, 1
        options.log_severity_level = 3  # errors
        options.add_session_config_entry("session.force_spinning_stop", "1")
        session = onnxruntime.InferenceSession(str(task.file), options, providers=["CPUExecutionProvider"])
        return cls(session.run, {session.get_inputs()[0].name: task.images.numpy()})

    def __call__(self) -> Tensor:
        """Logits in float32."""
        return torch.from_numpy(self.run(None, self.inputs)[0])


class OpenVino:
    """OpenVINO on the processor, one stream, as for the least latency.

    Its default precision is bfloat16 where the processor has it, so the precision is always said.
    """

    name: ClassVar[str] = "OpenVINO"
    packages: ClassVar[tuple[str, ...]] = (*EXPORT, "openvino")
    reads_onnx: ClassVar[bool] = True
    hints: ClassVar[dict[str, str]] = {"float32": "f32", "bfloat16": "bf16"}

    def __init__(self, infer: Callable[..., Any], images: Any) -> None:
        self.infer, self.images = infer, images

    @staticmethod
    def why_not(precision: ActualPrecision) -> str | None:
        """A processor without bfloat16 products."""
        import openvino

        if precision == "bfloat16" and "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            return "it finds no bfloat16 products on this processor"
        return None

    @classmethod
    def prepare(cls, task: Task) -> Self:
        """A compiled model."""
        import openvino

        core = openvino.Core()
        settings = {
            "INFERENCE_PRECISION_HINT": cls.hints[task.precision],
            "INFERENCE_NUM_THREADS": task.threads,
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
        }
        compiled = core.compile_model(core.read_model(task.file), "CPU", settings)
        return cls(compiled.create_infer_request().infer, task.images.numpy())

    def __call__(self) -> Tensor:
        """Logits in float32, valid until the next pass."""
        return torch.from_numpy(self.infer({0: self.images}, share_inputs=True, share_outputs=True)[0])


ENGINES: tuple[type[Engine], ...] = (PyTorch, OnnxRuntime, OpenVino)


def absence(engine: type[Engine], precision: ActualPrecision) -> str | None:
    """Why an engine cannot be measured, with what to install if that would help; None if it can."""
    missing = [package for package in engine.packages if find_spec(package) is None]
    if missing:
        return f"needs {', '.join(missing)}: {INSTALL}"
    return engine.why_not(precision)
