"""The C library, for Python.

This file imports the standard library alone, and numpy when a model is called: a copy beside ``librmeeto.so`` runs
models where rmeeto is not installed.
"""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Sequence
from ctypes import POINTER, byref, c_char, c_char_p, c_int, c_int64, c_size_t, c_void_p
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

HERE = Path(__file__).resolve().parent
# Beside this file, or where this package has it.
LIBRARIES = (HERE / "librmeeto.so", HERE / "librmeeto.dylib", HERE.parent / "ops" / "rmeeto_kernels.so")
MODES = {1: "L", 3: "RGB"}  # Pillow's names, by channels


class NativeError(ValueError):
    """What the library refuses; its text says why."""


class _Error(ctypes.Structure):
    _fields_ = (("text", c_char * 256),)


class _Options(ctypes.Structure):
    _fields_ = (("threads", c_int), ("removed", c_void_p))


class _Info(ctypes.Structure):
    _fields_ = (
        *((name, c_char_p) for name in ("name", "reduction", "precision", "kernels", "description")),
        *((name, c_int64) for name in ("channels", "frames", "height", "width", "image_size", "classes")),
        ("class_names", POINTER(c_char_p)),
        *((name, c_int64) for name in ("depth", "tokens", "tokens_left")),
        ("removed", POINTER(c_int64)),
        ("protected_count", c_int64),
        ("protected_at", POINTER(c_int64)),
    )


PROTOTYPES: dict[str, tuple[list[Any], Any]] = {
    "open": ([c_char_p, POINTER(c_void_p), POINTER(_Error)], c_int),
    "open_memory": ([c_char_p, c_size_t, POINTER(c_void_p), POINTER(_Error)], c_int),
    "describe": ([c_void_p], POINTER(_Info)),
    "close": ([c_void_p], None),
    "run": (
        [c_void_p, c_void_p, c_int64, POINTER(_Options), c_void_p, c_void_p, POINTER(_Error)],
        c_int,
    ),
    "prepare": ([c_void_p, c_void_p, c_int64, c_int64, c_int64, c_void_p, POINTER(_Error)], c_int),
    "version": ([], c_char_p),
}


@cache
def library(path: Path | None = None) -> ctypes.CDLL:
    """The compiled library, loaded. path: of another one than those in :data:`LIBRARIES`.

    Raises:
        NativeError: there is none, or the system refuses it.
    """
    found = next((one for one in LIBRARIES if one.is_file()), None) if path is None else path
    if found is None:
        raise NativeError(
            "the library is not built: there was no C++ compiler when rmeeto was installed "
            "(get one and install rmeeto again, or build it with CMake and pass its path)"
        )
    try:
        loaded = ctypes.CDLL(str(found))
        for name, (arguments, result) in PROTOTYPES.items():
            function = getattr(loaded, f"rmeeto_{name}")
            function.argtypes, function.restype = arguments, result
    except (OSError, AttributeError) as error:
        raise NativeError(f"{found} cannot be used: {error}") from error
    return loaded


def load(path: str | Path, *, library_path: str | Path | None = None) -> Model:
    """Open a model file.

    Raises:
        NativeError: the file cannot be read, is damaged, or asks for what this library cannot do; or there is none.
    """
    found = library(None if library_path is None else Path(library_path))
    handle, error = c_void_p(), _Error()
    if found.rmeeto_open(os.fsencode(path), byref(handle), byref(error)):
        raise NativeError(f"{path}: {_text(error)}")
    return Model(found, handle)


def load_bytes(data: bytes, *, library_path: str | Path | None = None) -> Model:
    """Open a model file that lies in memory; errors are those of :func:`load`."""
    found = library(None if library_path is None else Path(library_path))
    handle, error = c_void_p(), _Error()
    if found.rmeeto_open_memory(data, len(data), byref(handle), byref(error)):
        raise NativeError(_text(error))
    return Model(found, handle)


def _text(error: _Error) -> str:
    text: bytes = error.text
    return text.decode(errors="replace")


class Model:
    """An open model. Any number of threads may call it at once; it is closed at the end of a ``with`` block.

    description: all that the file says of it, plain values. input_size: ``(c, h, w)``, or of a clip ``(c, t, h, w)``.
    class_names: by label, or None. tokens, tokens_left: that enter the first block and leave the last one.
    removed: tokens merged before each block. protected: places of the class token (first) and of registers.
    kernels: the instruction set that computes. threads: to compute with, by default one for each core.
    """

    def __init__(self, library: ctypes.CDLL, handle: c_void_p) -> None:
        self._library, self._handle = library, handle
        info = library.rmeeto_describe(handle).contents
        self.name, self.reduction = info.name.decode(), info.reduction.decode()
        self.precision, self.kernels = info.precision.decode(), info.kernels.decode()
        self.description: dict[str, Any] = json.loads(info.description)
        self.frames, size = info.frames, (info.height, info.width)
        self.input_size = (info.channels, info.frames, *size) if info.frames > 1 else (info.channels, *size)
        self.num_classes, self.depth = info.classes, info.depth
        names = info.class_names
        self.class_names = tuple(names[i].decode() for i in range(info.classes)) if names else None
        self.tokens, self.tokens_left = info.tokens, info.tokens_left
        self.removed = tuple(info.removed[: info.depth])
        self.protected = tuple(info.protected_at[: info.protected_count])
        self.threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

    def __call__(self, images: np.ndarray, removed: Sequence[int] | None = None) -> np.ndarray:
        """Logits ``(b, classes)`` of prepared images or clips, ``(b, c, [t,] h, w)``, in float32.

        removed: how many tokens to merge before each block, in place of the model's own reduction.

        Raises:
            NativeError: images of another shape, or impossible counts.
        """
        return self._run(images, removed, None)

    def with_map(self, images: np.ndarray, removed: Sequence[int] | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Logits, and the source map ``(b, tokens)``: which of the last tokens each of the first is a part of."""
        import numpy as np

        source_map = np.empty((len(images), self.tokens), np.int64)
        return self._run(images, removed, source_map), source_map

    def prepare(self, picture: Any, out: np.ndarray | None = None, frame: int = 0) -> np.ndarray:
        """One picture as the model was evaluated on it: resized, cropped, normalised; ``(c, [t,] h, w)``.

        picture: a Pillow image, or uint8 ``(h, w, c)``. out, frame: the clip to write it to, and which frame it is.
        """
        import numpy as np

        channels = self.input_size[0]
        if hasattr(picture, "convert") and channels in MODES:
            picture = picture.convert(MODES[channels])
        pixels = np.ascontiguousarray(picture, np.uint8)
        pixels = pixels[..., None] if pixels.ndim == 2 else pixels
        if pixels.ndim != 3 or pixels.shape[2] != channels:
            raise NativeError(f"a picture of shape {pixels.shape}: the model takes (height, width, {channels})")
        image = np.zeros(self.input_size, np.float32) if out is None else out
        if image.shape != self.input_size or image.dtype != np.float32 or not image.flags.c_contiguous:
            raise NativeError(f"a picture is written to contiguous float32 {self.input_size}, not {image.shape}")
        pointer, error = pixels.ctypes.data_as(c_void_p), _Error()
        height, width = pixels.shape[:2]
        self._check(
            self._library.rmeeto_prepare(
                self._open_handle(), pointer, height, width, frame, image.ctypes.data, byref(error)
            ),
            error,
        )
        return image

    def close(self) -> None:
        """Release the model; it cannot be called any more."""
        handle, self._handle = self._handle, c_void_p()
        self._library.rmeeto_close(handle)

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self.close()

    def _run(self, images: np.ndarray, removed: Sequence[int] | None, source_map: np.ndarray | None) -> np.ndarray:
        import numpy as np

        images = np.ascontiguousarray(images, np.float32)
        if images.shape[1:] != self.input_size or not len(images):
            expected = ", ".join(map(str, self.input_size))
            raise NativeError(f"images of shape {images.shape}: the model takes (b, {expected})")
        if removed is not None and len(removed) != self.depth:
            raise NativeError(f"{len(removed)} counts of removed tokens: the model has {self.depth} blocks")
        counts = None if removed is None else (c_int64 * self.depth)(*removed)
        options = _Options(self.threads, None if counts is None else ctypes.addressof(counts))
        logits, error = np.empty((len(images), self.num_classes), np.float32), _Error()
        map_pointer = None if source_map is None else source_map.ctypes.data
        arguments = (images.ctypes.data, len(images), byref(options), logits.ctypes.data, map_pointer, byref(error))
        self._check(self._library.rmeeto_run(self._open_handle(), *arguments), error)
        return logits

    def _open_handle(self) -> c_void_p:
        if not self._handle:
            raise NativeError("the model has been closed")
        return self._handle

    @staticmethod
    def _check(status: int, error: _Error) -> None:
        if status:
            raise NativeError(_text(error))
