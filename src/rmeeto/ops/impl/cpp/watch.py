"""Whether objects of Python and PyTorch are as they were, in one call; `rmeeto.ops.watch` fills it in."""

from __future__ import annotations

import ctypes
from ctypes import PyDLL, Structure, c_int, c_int64, c_void_p, sizeof
from fractions import Fraction
from functools import cache
from typing import Any

import torch
from torch import Tensor

from rmeeto.ops.impl.cpp.loading import library_path

VERSION_OF = "_ZNK2at10TensorBase8_versionEv"  # int64_t at::TensorBase::_version() const, as compilers spell it
DATA_OF = "aoti_torch_get_data_ptr"
SAME_OBJECTS, SAME_TENSORS = 1, 2


class WatchedObjects(Structure):
    """Types of objects, entries of dictionaries, how many others have, and how to read them."""

    _fields_ = (
        ("typed", c_int64),
        *((name, c_void_p) for name in ("typed_at", "types")),
        ("type_offset", c_int64),
        ("entries", c_int64),
        *((name, c_void_p) for name in ("dictionaries", "names", "values")),
        ("counted", c_int64),
        *((name, c_void_p) for name in ("counted_at", "counts", "item", "count")),
    )


class WatchedTensors(Structure):
    """Tensors, and PyTorch's functions to read them with."""

    _fields_ = (
        ("tensors", c_int64),
        *((name, c_void_p) for name in ("handles", "versions", "data", "bytes", "samples", "version", "data_at")),
    )


@cache
def watching() -> PyDLL:
    """Return the library by calls that keep Python's lock, without which dictionaries cannot be read.

    ``rmeeto_compare`` returns what is the same, ``rmeeto_sample`` writes down a few words of each tensor.
    """
    loaded = PyDLL(str(library_path()))
    loaded.rmeeto_compare.argtypes = [c_void_p, c_void_p, c_int]
    loaded.rmeeto_sample.argtypes, loaded.rmeeto_sample.restype = [c_void_p], None
    return loaded


@cache
def readers() -> tuple[dict[str, int], dict[str, int]] | None:
    """Python's and PyTorch's functions by their fields above; None if these versions lack one."""
    try:
        of_torch = ctypes.CDLL(torch._C.__file__)
        tensors = {"version": getattr(of_torch, VERSION_OF), "data_at": getattr(of_torch, DATA_OF)}
        objects = {"item": ctypes.pythonapi.PyDict_GetItemWithError, "count": ctypes.pythonapi.PyDict_Size}
    except (AttributeError, OSError):
        return None
    type_offset = object.__basicsize__ - sizeof(c_void_p)
    if not _read_tensors(**tensors) or not _is_type_at(type_offset):
        return None
    return _addresses(objects) | {"type_offset": type_offset}, _addresses(tensors)


def _addresses(functions: dict[str, Any]) -> dict[str, int]:
    return {name: ctypes.cast(function, c_void_p).value or 0 for name, function in functions.items()}


def _is_type_at(offset: int) -> bool:
    """Whether objects hold the address of their type so many bytes from their beginning."""
    probes = (Fraction(1), [1])
    return all(c_void_p.from_address(id(probe) + offset).value == id(type(probe)) for probe in probes)


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
