"""A traced model in ONNX: standard operators only, opset 20, names that can be read."""

from rmeeto.exporting.lowering.graph import IR_VERSION, OPSET
from rmeeto.exporting.lowering.walk import Lowered, lower

__all__ = ["IR_VERSION", "OPSET", "Lowered", "lower"]
