"""The rival: one of timm's Vision Transformers at any image size, as PyTorch has it and as an ONNX file."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from rmeeto.config import Sizes
from rmeeto.errors import ConfigError, RunError, UnknownName
from rmeeto.models.description import Description, describe
from rmeeto.models.factory import create_model
from rmeeto.models.vit import named
from rmeeto.models.vit.transformer import restore

SHORT_NAMES = {f"deit_{size}": f"deit_{size}_patch16_224" for size in ("tiny", "small", "base")}
"""What experiments call the DeiTs, and timm's names for them."""

TOLERANCE = {"float32": 1e-3, "bfloat16": 0.1}
"""How far logits may be from PyTorch's in float32, as a share of the largest one: rounding of some dozen layers."""


def find_rival(name: str) -> Description:
    """The Vision Transformer of this name.

    Raises:
        UnknownName: no such model, with the nearest that exist. ConfigError: it is no Vision Transformer of timm.
    """
    full_name = SHORT_NAMES.get(name, name)
    if named.is_named(full_name):
        return describe(full_name)
    try:
        describe(name)
    except UnknownName:
        raise UnknownName("rival", name, (*SHORT_NAMES, *named.names())) from None
    raise ConfigError(
        f"measure against {name}",
        why="a rival is one of timm's Vision Transformers, by its name",
        fix="for instance --against deit_small; reductions of one model are compared by --reduce",
    )


def build_rival(name: str, size: int, *, seed: int) -> nn.Module:
    """timm's own model for square images of ``size`` pixels, in evaluation mode, with random weights of a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: nn.Module = restore(create_model(name, reduction="none", img_size=(size, size)))
    return model.eval()


def check_size(name: str, config: Sizes, size: int) -> None:
    """Raise :class:`ConfigError` for images whose last pixels would fill no patch."""
    if len(config.input_size) != 3:
        raise ConfigError(f"measure {name} at {size} px", why="it takes clips", fix="name a model for images")
    patch = getattr(config, "patch_size", 1)
    largest = max(patch) if isinstance(patch, tuple) else int(patch)
    stride = int(getattr(config, "stride", largest))
    if size < largest or (size - largest) % stride:
        below = max(largest, size - (size - largest) % stride)
        raise ConfigError(
            f"measure {name} at {size} px",
            why=f"its patches of {largest} px{'' if stride == largest else f', {stride} px apart,'} do not fill that",
            fix=f"for instance {below} or {below + stride} px",
        )


@contextmanager
def onnx_file(name: str, model: nn.Module, images: Tensor) -> Iterator[Path]:
    """The model as an ONNX file for images of this shape, in a folder that is removed at the end of the block.

    Raises:
        RunError: PyTorch cannot write it.
    """
    with TemporaryDirectory(prefix="rmeeto-") as folder:
        file = Path(folder) / "rival.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # exporters warn of their own future
            try:
                torch.onnx.export(model, (images,), file, dynamo=True, external_data=True, verbose=False)
            except torch.onnx.errors.OnnxExporterError as error:
                raise RunError(
                    f"write {name} as an ONNX file",
                    why=str(error).strip().splitlines()[0],
                    fix='update torch and the exporter: pip install -U torch "rmeeto[engines]"',
                ) from error
        yield file


def difference(logits: Tensor, truth: Tensor) -> float:
    """The largest deviation, as a share of the largest logit; infinite for another shape or a logit that is no number.

    truth: PyTorch's logits in float32.
    """
    if logits.shape != truth.shape:
        return math.inf
    found = float((logits.float() - truth).abs().max() / truth.abs().max())
    return found if math.isfinite(found) else math.inf


def refuse_another_function(name: str, engine: str, precision: str, found: float) -> None:
    """Raise :class:`RunError` if an engine's logits differ from PyTorch's by more than rounding."""
    if found > TOLERANCE[precision]:
        raise RunError(
            f"measure {name} in {engine}, {precision}",
            given=f"logits that differ from PyTorch's by {100 * found:.3g} % of the largest one",
            why=f"it computes something else: rounding makes at most {100 * TOLERANCE[precision]:g} %",
            fix=f"update {engine}; a time of another function says nothing",
        )
