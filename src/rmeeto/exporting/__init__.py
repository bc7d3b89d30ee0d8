"""Models leave Python: written for another runtime, and compared there with what they compute here.

`trace` traces the ordinary model once. A format writes it: `onnx_format` by the translations in `lowering`,
`pt2_format` as it is and in plain operations of PyTorch. `gate` compares what a runtime decides and gives with the
model in float64. The folder that comes out has all that a program needs beside the runtime.
"""

from rmeeto.exporting.run import FORMATS, Exported, export, export_all

__all__ = ["FORMATS", "Exported", "export", "export_all"]
