"""A whole frozen model in one call, from images to logits.

While a model's weights go through the caches they push out what Python would look at between two blocks. So it looks at
as little as it can, and once.
"""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import addressof, c_double, c_int64, c_void_p

from torch import Tensor

from rmeeto.errors import UnsupportedInput
from rmeeto.ops.impl import cpp
from rmeeto.ops.merging import Pairing, choices_of
from rmeeto.ops.packed import block
from rmeeto.ops.packed.linear import PackedClassifier, PackedEmbedding


class PackedNetwork:
    """Images embedded, taken through every block, and classified; before a block the rows closest to each other merge.

    It equals its parts and `rmeeto.ops.merge_closest` or `merge_neighbours`, which compares what the last block gave,
    one after the other.
    Widths and dtypes are not checked: a frozen model knows what it hands over.

    Args:
        embedding: of images.
        blocks: at least one, all packed in one dtype.
        classifier: of the row that stands first among the protected ones.
        protected: where the rows stand that no reduction touches.
        removed: rows that are merged before each block, none before the first.
        matching: of all reductions, within reach or among neighbours.

    Raises:
        UnsupportedInput: more rows removed than there are candidates, or a protected position outside.
    """

    def __init__(
        self,
        embedding: PackedEmbedding,
        blocks: Sequence[block.PackedBlock],
        classifier: PackedClassifier,
        protected: Sequence[int],
        removed: Sequence[int],
        matching: Pairing,
    ) -> None:
        length, depth = embedding.length, len(blocks)
        _check(length, protected, removed)
        self._embedding, self._blocks, self._classifier = embedding, tuple(blocks), classifier
        self._arrays = (
            (c_void_p * depth)(*(one.block for one in blocks)),
            (c_int64 * depth)(*removed),
            (c_int64 * len(protected))(*protected),
        )
        packed, removed_at, protected_at = (addressof(array) for array in self._arrays)
        self._network = cpp.Network(
            *(depth, embedding.width, len(protected), cpp.STORAGE[blocks[0].dtype]),
            *(*choices_of(matching, length), block.CACHE),
            *(embedding.packed, packed, classifier.packed, removed_at, protected_at),
        )

    def __call__(self, images: Tensor) -> Tensor:
        """Images ``(b, channels, [frames,] height, width)``, contiguous in float32, to ``(b, classes)`` logits.

        Raises:
            MemoryError: there is none left for what stands between the blocks.
        """
        return self._run(images)

    def reduction_seconds(self, images: Tensor) -> float:
        """What all reductions take on the way of such images."""
        seconds = c_double()
        self._run(images, addressof(seconds))
        return seconds.value

    def _run(self, images: Tensor, seconds_at: int | None = None) -> Tensor:
        classifier = self._classifier
        logits = images.new_empty(len(images), classifier.width, dtype=classifier.dtype)
        network = cpp.Network.from_buffer_copy(self._network)  # others may be calling
        network.reduction_seconds = seconds_at
        network.embedding, network.classification = self._embedding.structure(images), classifier.structure(logits)
        cpp.call("network", network)
        return logits


def _check(length: int, protected: Sequence[int], removed: Sequence[int]) -> None:
    if not all(0 <= place < length for place in protected):
        raise UnsupportedInput(
            "protect rows from being merged",
            given=f"positions {tuple(protected)} of {length} rows",
            why="some lie outside",
            fix="positions count from 0",
        )
    left = length
    for number, r in enumerate(removed):
        rows = left - len(protected) if number else 0
        candidates = (rows + 1) // 2 if rows > 1 else 0
        if not 0 <= r <= candidates:
            raise UnsupportedInput(
                f"merge {r} rows before block {number}",
                given=f"{left} rows, {len(protected)} of them protected",
                why=f"{candidates} of them are candidates" if number else "the first block has none before it",
                fix="remove fewer",
            )
        left -= r
