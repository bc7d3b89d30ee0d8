"""Whether objects of Python and PyTorch are as they were, in one call; `rmeeto.ops.watch` fills it in."""

from __future__ import annotations

import ctypes
from ctypes import PyDLL, Structure, c_int, c_int64, c_uint64, c_void_p
from functools import cache
from typing import Any

import torch
from torch import Tensor

from rmeeto.ops.impl.cpp.loading import library_path

VERSION_OF = "_ZNK2at10TensorBase8_versionEv"  # int64_t at::TensorBase::_version() const, as compilers spell it
DATA_OF = "aoti_torch_get_data_ptr"
OTHER_TENSORS, ALL_THE_SAME, OTHER_ENTRIES = range(3)


class Watch(Structure):
    """What is compared, and the functions to read it with, of those to whom it belongs."""

    _fields_ = (
        ("entries", c_int64),
        *((name, c_void_p) for name in ("dictionaries", "names", "values")),
        ("counted", c_int64),
        *((name, c_void_p) for name in ("counted_at", "counts")),
        ("tensors", c_int64),
        *((name, c_void_p) for name in ("handles", "versions", "data", "bytes")),
        ("sample", c_uint64),
        *((name, c_void_p) for name in ("item", "count", "version", "data_at")),
    )


@cache
def watching() -> PyDLL:
    """Return the library by calls that keep Python's lock, without which dictionaries cannot be read.

    ``rmeeto_compare`` returns which objects are others, ``rmeeto_sample`` a number that follows from a few words of
    each tensor.
    """
    loaded = PyDLL(str(library_path()))
    loaded.rmeeto_compare.argtypes, loaded.rmeeto_sample.argtypes = [c_void_p], [c_void_p]
    loaded.rmeeto_sample.restype = c_uint64
    return loaded


@cache
def readers() -> dict[str, int] | None:
    """Python's and PyTorch's functions by their fields in a watch; None where these versions do not have them."""
    try:
        of_torch = ctypes.CDLL(torch._C.__file__)
        functions = {
            "item": ctypes.pythonapi.PyDict_GetItemWithError,
            "count": ctypes.pythonapi.PyDict_Size,
            "version": getattr(of_torch, VERSION_OF),
            "data_at": getattr(of_torch, DATA_OF),
        }
    except (AttributeError, OSError):
        return None
    if not _read_tensors(functions["version"], functions["data_at"]):
        return None
    return {name: ctypes.cast(function, c_void_p).value or 0 for name, function in functions.items()}


def _read_tensors(version: Any, data_at: Any) -> bool:
    """Whether both functions say of a tensor what Python says."""
    version.argtypes, version.restype, data_at.argtypes, data_at.restype = [c_void_p], c_int64, [c_void_p] * 2, c_int
    with torch.inference_mode(False):  # changes are counted outside of it alone
        probe = torch.zeros(3)[1:]
        handle, data = (c_void_p * 1)(handle_of(probe)), c_void_p()
        for _ in range(2):
            if version(handle) != probe._version or data_at(handle, ctypes.byref(data)):
                return False
            if data.value != probe.data_ptr():
                return False
            probe.add_(1)
    return True


def handle_of(x: Tensor) -> int:
    """Return the one pointer that an ``at::Tensor`` consists of."""
    return int(x._cdata)
