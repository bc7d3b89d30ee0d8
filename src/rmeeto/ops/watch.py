"""Whether objects are as they were when something was made from them, compared in one call.

A frozen model looks at some two thousand objects before each image, and they have left the caches since the last one.
One after the other Python would take a millisecond for them, so the C++ library looks, where it can read them.
"""

from __future__ import annotations

import weakref
from array import array
from collections.abc import Iterable, Sequence
from ctypes import Structure, addressof
from operator import is_
from typing import Any

import torch
from torch import Tensor

from rmeeto.ops.impl import cpp
from rmeeto.ops.memory import is_dense, span

Entry = tuple[dict[str, Any], str, Any]


def is_watchable(x: object) -> bool:
    """Whether a tensor is plain memory whose changes PyTorch counts; it does not count them for inference tensors."""
    return is_dense(x) and not x.is_inference()  # type: ignore[attr-defined]


class ObjectWatch:
    """Objects' types, entries of dictionaries, and how many entries others have, as they should be.

    Args:
        typed: objects that should keep the types they have now.
        entries: ``(dictionary, name, value)``.
        counted: dictionaries, and how many entries they should have.
    """

    def __init__(
        self,
        typed: Sequence[object] = (),
        entries: Sequence[Entry] = (),
        counted: Sequence[tuple[dict[Any, Any], int]] = (),
    ) -> None:
        self._typed, self._types = [*typed], [*map(type, typed)]
        self._dictionaries, self._names = [entry[0] for entry in entries], [entry[1] for entry in entries]
        self._values = [entry[2] for entry in entries]
        self._counted, self._counts = [pair[0] for pair in counted], [pair[1] for pair in counted]
        self.structure = cpp.WatchedObjects()
        readers = _readers()
        if readers is not None:
            self._arrays = _fill(
                self.structure,
                typed=len(typed),
                typed_at=map(id, self._typed),
                types=map(id, self._types),
                entries=len(entries),
                dictionaries=map(id, self._dictionaries),
                names=map(id, self._names),
                values=map(id, self._values),
                counted=len(counted),
                counted_at=map(id, self._counted),
                counts=self._counts,
                **readers[0],
            )

    def look(self) -> bool:
        """Whether all are so, as Python finds."""
        if [*map(type, self._typed)] != self._types:
            return False
        if not all(map(is_, map(dict.get, self._dictionaries, self._names), self._values)):
            return False
        return [*map(len, self._counted)] == self._counts


class TensorWatch:
    """Tensors, as they are now.

    Three things are seen: a change in place that PyTorch counts (``_version``), other memory (``.data = …``), and
    whatever else changes most of the values: fused optimizers and ``.data.mul_`` are not counted, so a few values of
    each tensor are compared.

    Args:
        tensors: as :func:`is_watchable` wants them.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._tensors, self._versions = [*tensors], [x._version for x in tensors]
        self._data = [x.data_ptr() for x in tensors]
        # The memory stays while it is compared, or another tensor might be found at its address. While there are weak
        # references PyTorch refuses to put another tensor behind the same object (torch.utils.swap_tensors).
        self._kept = [x.untyped_storage() for x in tensors], [weakref.ref(x) for x in tensors]
        self.structure = cpp.WatchedTensors()
        readers = _readers()
        if readers is None:
            self._values = [*map(_some_values, tensors)]
            return
        self._arrays = _fill(
            self.structure,
            tensors=len(tensors),
            handles=map(cpp.handle_of, tensors),
            versions=self._versions,
            data=self._data,
            bytes=[span(x) * x.itemsize for x in tensors],
            samples=[0] * len(tensors),
            **readers[1],
        )
        cpp.watching().rmeeto_sample(addressof(self.structure))

    def is_same(self) -> bool:
        """Whether all are as they were."""
        return compare(None, self)[1]

    def changed(self) -> list[int]:
        """The numbers of the tensors that are not as they were."""
        return [number for number in range(len(self._tensors)) if not self._is_same(number)]

    def _is_same(self, number: int) -> bool:
        if _readers() is None:
            x = self._tensors[number]
            before = self._versions[number], self._data[number], self._values[number]
            return (x._version, x.data_ptr(), _some_values(x)) == before
        one = cpp.WatchedTensors.from_buffer_copy(self.structure)
        one.tensors = 1
        for name in ("handles", "versions", "data", "bytes", "samples"):
            setattr(one, name, getattr(one, name) + number * array("Q").itemsize)
        return bool(cpp.watching().rmeeto_compare(None, addressof(one), 1) & cpp.SAME_TENSORS)

    def look(self) -> bool:
        """The same, as Python finds."""
        if [x._version for x in self._tensors] != self._versions or [x.data_ptr() for x in self._tensors] != self._data:
            return False
        return [*map(_some_values, self._tensors)] == self._values


def compare(objects: ObjectWatch | None, tensors: TensorWatch) -> tuple[bool, bool]:
    """Whether objects and whether tensors are as they were; no objects are."""
    if _readers() is None:
        return objects is None or objects.look(), tensors.look()
    of_objects = None if objects is None else addressof(objects.structure)
    same = cpp.watching().rmeeto_compare(of_objects, addressof(tensors.structure), torch.get_num_threads())
    return bool(same & cpp.SAME_OBJECTS), bool(same & cpp.SAME_TENSORS)


def _readers() -> tuple[dict[str, int], dict[str, int]] | None:
    """The functions with which the C++ library reads objects and tensors; None if Python has to compare them."""
    return cpp.readers() if cpp.absence() is None else None


def _fill(structure: Structure, **fields: int | Iterable[int]) -> list[array[int]]:
    """Write numbers and arrays of numbers into a structure; return the arrays, which it points to."""
    arrays = []
    for name, value in fields.items():
        if not isinstance(value, int):
            arrays.append(array("Q", value))
            value = arrays[-1].buffer_info()[0]
        setattr(structure, name, value)
    return arrays


def _some_values(x: Tensor) -> bytes:
    if not x.numel():
        return b""
    few = x.detach().as_strided((2,), ((span(x) - 1) // 2,), x.storage_offset() + (span(x) - 1) // 2).contiguous()
    return bytes(few.view(torch.uint8).tolist())
