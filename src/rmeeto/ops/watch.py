"""Whether objects are as they were when something was made from them, compared in one call.

A frozen model looks at some two thousand objects before each image, and they have left the caches since the last one.
One after the other Python would take a millisecond for them, so the C++ library looks, where it can read them.
"""

from __future__ import annotations

import weakref
from array import array
from collections.abc import Iterable, Sequence
from ctypes import addressof
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


class Watch:
    """Entries of dictionaries, how many entries others have, and tensors, as they are now.

    Of a tensor three things are seen: a change in place that PyTorch counts (``_version``), other memory
    (``.data = …``), and whatever else changes most of its values: fused optimizers and ``.data.mul_`` are not counted,
    so a few values of each tensor are compared.

    Args:
        entries: ``(dictionary, name, value)``.
        counted: dictionaries, and how many entries they should have.
        tensors: as :func:`is_watchable` wants them.
    """

    def __init__(
        self,
        entries: Sequence[Entry] = (),
        counted: Sequence[tuple[dict[Any, Any], int]] = (),
        tensors: Sequence[Tensor] = (),
    ) -> None:
        self._dictionaries, self._names = [entry[0] for entry in entries], [entry[1] for entry in entries]
        self._values = [entry[2] for entry in entries]
        self._counted, self._counts = [pair[0] for pair in counted], [pair[1] for pair in counted]
        self._tensors, self._versions = [*tensors], [x._version for x in tensors]
        self._data = [x.data_ptr() for x in tensors]
        # The memory stays while it is compared, or another tensor might be found at its address. While there are weak
        # references PyTorch refuses to put another tensor behind the same object (torch.utils.swap_tensors).
        self._kept = [x.untyped_storage() for x in tensors], [weakref.ref(x) for x in tensors]
        self._watch = cpp.Watch()
        self._arrays: list[array[int]] = []  # which the structure points to
        self._address = addressof(self._watch)
        self._library = None if cpp.absence() is not None else cpp.watching()
        readers = None if self._library is None else cpp.readers()
        self._compare = None if self._library is None or readers is None else self._library.rmeeto_compare
        self._fill(tensors=len(tensors), data=self._data, bytes=[span(x) * x.itemsize for x in tensors])
        if readers is not None:
            self._fill(
                entries=len(entries),
                dictionaries=map(id, self._dictionaries),
                names=map(id, self._names),
                values=map(id, self._values),
                counted=len(counted),
                counted_at=map(id, self._counted),
                counts=self._counts,
                handles=map(cpp.handle_of, tensors),
                versions=self._versions,
                **readers,
            )
        self._watch.sample = self._sample()

    def is_same(self) -> bool | None:
        """True if all is as it was; False if a tensor has changed; None if an entry or a number of them has."""
        if self._compare is not None:
            outcome = self._compare(self._address)
            return None if outcome == cpp.OTHER_ENTRIES else outcome == cpp.ALL_THE_SAME
        if not all(map(is_, map(dict.get, self._dictionaries, self._names), self._values)):
            return None
        if [*map(len, self._counted)] != self._counts:
            return None
        if [x._version for x in self._tensors] != self._versions or [x.data_ptr() for x in self._tensors] != self._data:
            return False
        return self._sample() == int(self._watch.sample)

    def _sample(self) -> int:
        if self._library is None:
            return hash(tuple(map(_some_values, self._tensors)))
        return int(self._library.rmeeto_sample(self._address))

    def _fill(self, **fields: int | Iterable[int]) -> None:
        for name, value in fields.items():
            if not isinstance(value, int):
                self._arrays.append(array("Q", value))
                value = self._arrays[-1].buffer_info()[0]
            setattr(self._watch, name, value)


def _some_values(x: Tensor) -> bytes:
    if not x.numel():
        return b""
    few = x.detach().as_strided((2,), ((span(x) - 1) // 2,), x.storage_offset() + (span(x) - 1) // 2).contiguous()
    return bytes(few.view(torch.uint8).tolist())
