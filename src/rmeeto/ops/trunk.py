"""All blocks of a network in one call, with the reductions between them: nothing is left to do in Python but to ask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from rmeeto.errors import UnsupportedInput
from rmeeto.ops import block
from rmeeto.ops.impl import cpp
from rmeeto.ops.merging import Matching


class TrunkOutputs(NamedTuple):
    """What the last block gives."""

    x: Tensor  # (b, l, d)
    stream: Tensor  # (b, l, d), float32: the residual stream that it saw
    protected: Tensor  # (b, p)


def run_trunk(
    blocks: Sequence[block.PackedBlock],
    removed: Sequence[int],
    x: Tensor,
    protected: Tensor,
    matching: Matching,
) -> TrunkOutputs:
    """Compute every block on what the one before it gave, and before a block merge the rows closest to each other.

    It equals the blocks and `rmeeto.ops.merge_closest`, which compares what the last block gave, one after the other.
    Widths and dtypes are not checked: a frozen model knows what it hands over.

    Args:
        blocks: of equal width, all packed in one dtype; at least one.
        removed: rows that are merged before each block, none before the first.
        x: (b, l, d), float32 or in that dtype, contiguous.
        protected: (b, p) int64, contiguous, positions of rows that no reduction touches.
        matching: of all reductions.

    Raises:
        UnsupportedInput: more rows removed than there are candidates.
        MemoryError: there is none left for what stands between the blocks. IndexError: a protected position lies
            outside.
    """
    _check(removed, x.shape[1], protected.shape[1])
    distance, nth, reach = matching
    span = x.shape[1] if reach is None else min(reach, x.shape[1])
    packed = [one.block for one in blocks]
    found = cpp.run_trunk(packed, removed, x, protected, blocks[0].dtype, distance, nth, span, block.CACHE)
    return TrunkOutputs(*found)


def _check(removed: Sequence[int], length: int, protected: int) -> None:
    left = length
    for number, r in enumerate(removed):
        rows = left - protected if number else 0
        candidates = (rows + 1) // 2 if rows > 1 else 0
        if not 0 <= r <= candidates:
            raise UnsupportedInput(
                f"merge {r} rows before block {number}",
                given=f"{left} rows, {protected} of them protected",
                why=f"{candidates} of them are candidates" if number else "the first block has none before it",
                fix="remove fewer",
            )
        left -= r
