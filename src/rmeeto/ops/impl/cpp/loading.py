"""The compiled library: where it is, why it cannot be used, and its calls with as many threads as PyTorch takes."""

from __future__ import annotations

import ctypes
from ctypes import Array, Structure, c_bool, c_char_p, c_int, c_int64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

import torch

from rmeeto.ops.impl.cpp.sources import fingerprint

LIBRARY = "rmeeto_kernels.so"
SOURCES = Path(__file__).parents[2] / "csrc"
REBUILD = "python setup.py build_kernels --inplace"
# Arguments and result of functions that ctypes could not call otherwise: they take or return more than structures by
# reference, numbers of threads and outcomes.
PROTOTYPES: dict[str, tuple[list[Any], Any]] = {
    "instruction_set": ([], c_char_p),
    "use_instruction_set": ([c_char_p], c_bool),
    "has_matrix_registers": ([], c_bool),
    "block_pack": ([c_void_p], c_void_p),
    "block_workspace": ([c_void_p, c_void_p, c_int64, c_int], c_int64),
    "block_run": ([c_void_p, c_void_p, c_int64, c_void_p, c_int], c_int),
    "block_release": ([c_void_p], None),
    "linear_pack": ([c_void_p, c_int64, c_int64, c_int64], c_void_p),
    "embed": ([c_void_p, c_void_p, c_int], c_int),
    "classify": ([c_void_p, c_void_p, c_int], c_int),
    "linear_release": ([c_void_p], None),
}


def library_path() -> Path:
    """Return where the compiled library is, or would be if it had been built."""
    return Path(__file__).parents[2] / LIBRARY


def instruction_set() -> str:
    """Return what the kernels run on: ``"avx512_bf16"``, ``"avx512"``, ``"avx2"`` or ``"portable"``."""
    return str(library().rmeeto_instruction_set().decode())


def use_instruction_set(name: str | None) -> bool:
    """Run on the named instruction set from now on (None: the best one); False if this processor lacks it."""
    return bool(library().rmeeto_use_instruction_set(None if name is None else name.encode()))


@cache
def absence() -> str | None:
    """Return why the compiled library cannot be used here, or None."""
    if not library_path().exists():
        return (
            "the C++ kernels are not built: there was no working C++ compiler when rmeeto was installed "
            "(get one, then install rmeeto again)"
        )
    try:
        loaded = ctypes.CDLL(str(library_path()))
    except OSError as error:
        return f"the C++ kernels cannot be loaded: {error}"
    sources = fingerprint(SOURCES)
    if sources is not None and built_from(loaded) != sources:
        return f"the C++ kernels were built from other sources than {SOURCES.name}/ holds: run `{REBUILD}`"
    return None


def built_from(library: ctypes.CDLL) -> str | None:
    """Return the fingerprint of the sources that a library was built from; None if it carries no fingerprint."""
    try:
        library.rmeeto_sources.restype = c_char_p
    except AttributeError:  # older than fingerprints
        return None
    return str(library.rmeeto_sources().decode())


@cache
def library() -> ctypes.CDLL:
    """Return the compiled library, loaded."""
    loaded = ctypes.CDLL(str(library_path()))
    for name, (arguments, result) in PROTOTYPES.items():
        function = getattr(loaded, f"rmeeto_{name}")
        function.argtypes, function.restype = arguments, result
    share_threads(loaded)
    return loaded


def share_threads(library: ctypes.CDLL) -> None:
    """Lend the kernels the threads of PyTorch's OpenMP runtime; without one they use threads of their own.

    PyTorch's threads spin for some milliseconds after each of its parallel regions, waiting for the next, and would
    keep the cores from any others. While other programs keep the cores busy, the kernels use their own all the same:
    they need not wait for those that the system does not run.
    """
    try:
        parallel = ctypes.CDLL(None).GOMP_parallel
    except (OSError, TypeError, AttributeError):  # no such runtime, or no such look-up (Windows)
        return
    library.rmeeto_use_openmp(ctypes.cast(parallel, c_void_p))


def call(name: str, problem: Structure | Array[Any]) -> None:
    """Run a kernel on the structure, or array of them, that describes its work."""
    outcome = getattr(library(), f"rmeeto_{name}")(ctypes.byref(problem), torch.get_num_threads())
    if outcome < 0:
        raise IndexError(f"{name}: a position lies outside of the sequence")
    if not outcome:
        raise MemoryError(f"{name}: no memory left for the kernel's scratch space")
