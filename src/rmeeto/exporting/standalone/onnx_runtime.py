"""The end of ``run.py`` in a folder with an ONNX model: the runtime, and the command."""

from __future__ import annotations

from typing import Any

from rmeeto.exporting.standalone.prepare import HERE, answer, parser


def load(runtime: str) -> Any:
    """A function from a batch of inputs to logits, by ONNX Runtime or OpenVINO in float32."""
    file = str(HERE / "model.onnx")
    if runtime == "openvino":
        import openvino

        compiled = openvino.Core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return lambda batch: compiled(batch)[0]
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return lambda batch: session.run(None, {"images": batch})[0]


def main() -> None:
    """The command."""
    ours = parser()
    ours.add_argument("--runtime", choices=("onnxruntime", "openvino"), default="onnxruntime")
    asked = ours.parse_args()
    answer(asked, load, asked.runtime)


if __name__ == "__main__":
    main()
