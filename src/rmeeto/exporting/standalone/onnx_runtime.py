"""The end of ``run.py`` in a folder with an ONNX model: the runtime, and the command."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmeeto.exporting.standalone.prepare import HERE, read_input, read_json, show


def load(runtime: str) -> Any:
    """A function from a batch of inputs to the model's results, by ONNX Runtime or OpenVINO in float32."""
    file = str(HERE / "model.onnx")
    if runtime == "openvino":
        import openvino

        compiled = openvino.Core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return lambda batch: [*compiled(batch).values()]
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return lambda batch: session.run(None, {"images": batch})


def fill(batch: NDArray[np.float32], images: int | None) -> NDArray[np.float32]:
    """Repeat an input if the model takes a fixed number of them at a time."""
    return np.repeat(batch, images or 1, axis=0)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Name the likeliest classes of images or clips.")
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--runtime", choices=("onnxruntime", "openvino"), default="onnxruntime")
    parser.add_argument("--top", type=int, default=5, help="classes to show")
    parser.add_argument("--logits", type=Path, help="write the logits to this .npy file, one row per input")
    asked = parser.parse_args()
    how, labels, run = read_json("preprocess.json"), read_json("labels.json"), load(asked.runtime)
    rows = []
    for path in asked.files:
        logits = run(fill(read_input(path, how), how["batch"]))[0][0]
        rows.append(logits)
        show(path, logits, labels, asked.top)
    if asked.logits:
        np.save(asked.logits, np.stack(rows))


if __name__ == "__main__":
    main()
