"""Weight files read safely: no code, no more memory than the file's size asks for, and plain tensors only."""

from __future__ import annotations

import argparse
import re
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file
from torch import Tensor

from rmeeto.errors import CheckpointError
from rmeeto.files.paths import NotAFile, check_file, open_file
from rmeeto.files.run_files import why_no_model
from rmeeto.models.seal import check_seal

WEIGHTS = "model.safetensors"
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
WRAPPERS = ("model", "state_dict", "module", "model_state_dict", "model_ema", "ema")
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
DEEPEST = 16  # wrappers within wrappers

StateDict = dict[str, Tensor]


def read_weights(path: Path) -> StateDict:
    """The state dict in a file or folder, unwrapped from the wrappers of training programs.

    Pickles are read weights-only: nothing in them is executed. ``argparse.Namespace``, which official files hold
    beside the weights, is the one foreign type let in.

    Raises:
        CheckpointError: no weight file, several, a corrupt one, one that holds no weights, or tensors that are not
            plain: sparse, quantised, without data, or with fewer numbers than their shapes say.
    """
    file = _weight_file(path)
    try:
        content = _safetensors(file) if file.suffix == ".safetensors" else _pickled(file)
    except (NotAFile, PermissionError, FileNotFoundError) as error:
        raise CheckpointError(f"load weights from {file}", why=str(error), fix="give a weight file") from error
    state = _unwrap(content, file)
    for name, tensor in state.items():
        if (fault := _fault(tensor)) is not None:
            raise CheckpointError(
                f"load weights from {file}",
                given=f"{name}, {tuple(tensor.shape)} {tensor.dtype}",
                why=f"it is {fault}; weights are plain tensors",
                fix="save them dense, on a processor and not quantised",
            )
    return state


def check_dtypes(state: StateDict, names: Iterable[str], source: str | Path) -> None:
    """Raise :class:`CheckpointError` if a tensor of these names has no real floating-point numbers."""
    for name in names:
        if name in state and state[name].dtype not in DTYPES:
            raise CheckpointError(
                f"load weights from {source}",
                given=f"{name}, {state[name].dtype}",
                why=f"weights are {', '.join(str(dtype).removeprefix('torch.') for dtype in DTYPES)}",
                fix="these may be quantised or integer codes: save the floating-point weights that they stand for",
            )


def _safetensors(file: Path) -> object:
    check_file(file.stat())
    try:
        check_seal(file)
        try:
            str(file).encode()
        except UnicodeEncodeError:  # the library takes no such path
            with open_file(file) as opened:
                return load(opened.read())
        return load_file(file)
    except (SafetensorError, RuntimeError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _corrupt(file, error) from error


def _pickled(file: Path) -> object:
    check_file(file.stat())
    try:
        _check_not_compressed(file)
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols; what cannot be read is an error below
            return torch.load(file, map_location="cpu", weights_only=True)
    # A pickle is a program of its own language: a damaged one can raise any exception.
    except Exception as error:
        if (
            refused := re.search(r"(?:Unsupported|unsupported) (?:global|class)[^\n]{0,200}|GLOBAL \S+", str(error))
        ) is not None:
            raise CheckpointError(
                f"load weights from {file}",
                why=f"it holds more than tensors and plain values: {refused.group()[:200]}",
                fix="only tensors are read, never code; save model.state_dict() as .safetensors where it was made",
            ) from error
        raise _corrupt(file, error) from error


def _check_not_compressed(file: Path) -> None:
    """Raise :class:`ValueError` for an archive that would unpack to more than its size; torch never compresses."""
    if not zipfile.is_zipfile(file):
        return
    with zipfile.ZipFile(file) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > file.stat().st_size:
        raise ValueError(f"its {file.stat().st_size:,} bytes would unpack to {unpacked:,}")


def _corrupt(file: Path, error: Exception) -> CheckpointError:
    lines = str(error).strip().splitlines()
    what = lines[0][:200] if lines and "weights_only" not in lines[0] else "its beginning is not that of a weight file"
    if isinstance(error, KeyError):
        what = "no program that writes weights leaves such bytes"
    return CheckpointError(
        f"load weights from {file}",
        why=f"the file is corrupt, incomplete or no weight file ({type(error).__name__}: {what})",
        fix="only tensors are read, never code: download or copy the file again, or save model.state_dict() anew",
    )


def _weight_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    preferred = path / WEIGHTS
    if preferred.exists():
        return preferred
    if (why := why_no_model(path)) is not None:  # its states are no weight files, though they end in .pt
        raise CheckpointError(
            f"load weights from the folder {path}",
            why=f"there are none yet: {why}",
            fix=f"go on with the run: rmeeto retrain … --output {path} --resume",
        )
    try:
        files = sorted(entry for entry in path.iterdir() if entry.suffix in SUFFIXES)
    except OSError as error:
        raise CheckpointError(f"load weights from the folder {path}", why=str(error.strerror)) from error
    if len(files) != 1:
        raise CheckpointError(
            f"load weights from the folder {path}",
            given=", ".join(p.name for p in files[:8]) or "no .safetensors, .pth, .pt or .bin file",
            why=f"it holds no {WEIGHTS}" + (" and several other weight files" if files else ""),
            fix="give the file itself",
        )
    return files[0]


def _unwrap(content: object, file: Path) -> StateDict:
    for _ in range(DEEPEST):  # a wrapper may hold itself
        if not isinstance(content, Mapping) or _tensors(content):
            break
        content = next((content[name] for name in WRAPPERS if name in content), None)
    if not isinstance(content, Mapping) or not _tensors(content):
        raise CheckpointError(
            f"load weights from {file}",
            given=f"a {type(content).__name__}" if content is not None else None,
            why="there is no state dict (names with tensors) in it",
            fix=f"expected are weights, bare or under one of {', '.join(WRAPPERS)}",
        )
    return {str(name).removeprefix("module."): value for name, value in _tensors(content).items()}


def _tensors(content: Mapping[object, object]) -> dict[object, Tensor]:
    return {name: value for name, value in content.items() if isinstance(value, Tensor)}


def _fault(tensor: Tensor) -> str | None:
    """Why a tensor is not plain, or None."""
    if tensor.is_meta:
        return "without data (on the meta device)"
    if tensor.layout != torch.strided:
        return f"sparse ({str(tensor.layout).removeprefix('torch.')})"
    if tensor.is_quantized:
        return "quantised"
    if type(tensor) not in (Tensor, torch.nn.Parameter):
        return f"a {type(tensor).__name__}"
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        return "of more numbers than the file holds"
    return None
