"""``--format onnx``: one ``model.onnx`` for ONNX Runtime, OpenVINO and others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rmeeto.errors import ConfigError
from rmeeto.exporting.conditions import check_precision
from rmeeto.exporting.folder import SOURCE_MAP_TEXT, made_folder, write_run
from rmeeto.exporting.runners import Runner, is_installed, onnx_runners
from rmeeto.exporting.trace import LOGITS, SOURCE_MAP, Batch, trace
from rmeeto.exporting.truth import reducing_blocks
from rmeeto.files.durable import write_bytes
from rmeeto.models.reducible import ReducibleModel

FILE = "model.onnx"
MOST_MEGABYTES = 2_000  # a message of protocol buffers has less than 2³¹ bytes


class OnnxFormat:
    """Standard operators of opset 20."""

    name = "onnx"
    packages: tuple[str, ...] = ("onnx", "onnxruntime", "openvino", "torch")
    needs: tuple[str, ...] = ("numpy", "pillow", "onnxruntime")
    runs = "`run.py` needs nothing else; with `--runtime openvino` it runs the same file in OpenVINO."
    map_text = SOURCE_MAP_TEXT
    any_batch = False

    def check(self, model: ReducibleModel, precision: str) -> None:
        """Raise :class:`ConfigError` for another precision than float32, too large a model, or a missing package."""
        check_precision(self.name, precision)
        if not is_installed("onnx"):
            raise ConfigError(
                "export to onnx", why="the package onnx is not installed", fix='pip install "rmeeto[export]"'
            )

        megabytes = sum(parameter.numel() * 4 for parameter in model.parameters()) / 1e6
        if megabytes > MOST_MEGABYTES:
            raise ConfigError(
                "export to onnx",
                given=f"{megabytes:,.0f} MB of weights",
                why=f"one ONNX file holds at most {MOST_MEGABYTES:,} MB",
                fix="--format pt2 has no such limit",
            )

    def write(self, model: ReducibleModel, folder: Path, *, batch: Batch, maps: bool) -> Sequence[Runner]:
        """Write the model and its ``run.py``; what runs it."""
        from rmeeto.exporting.lowering import lower  # it needs onnx, which is an extra
        from rmeeto.exporting.standalone import onnx_runtime

        lowered = lower(trace(model, batch))
        given = [LOGITS, SOURCE_MAP] if maps else [LOGITS]
        made_folder(folder)
        write_bytes(folder / FILE, lowered.model(*given).SerializeToString())
        write_run(folder, onnx_runtime)
        places = [name for name in lowered.results if name not in (LOGITS, SOURCE_MAP)]
        probe = lowered.model(LOGITS, *places).SerializeToString()
        return onnx_runners(folder / FILE, probe, reducing_blocks(model.schedule.counts))
