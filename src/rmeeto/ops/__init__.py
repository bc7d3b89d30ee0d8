"""The two operations of a Vision Mamba that PyTorch lacks: tensors in, tensors out, nothing of models."""

from rmeeto.ops.conv import causal_conv
from rmeeto.ops.scan import selective_scan

__all__ = ["causal_conv", "selective_scan"]
