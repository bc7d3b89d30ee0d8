"""The nearest column of every row: a matrix product that is never written down.

One program holds a few rows of one image and walks the columns tile by tile; what remains of a tile of similarities is
each row's best so far. The nth best takes n walks: each sees only what ranks behind the find of the walk before. Rows
may be named by position, so that a sequence need not be taken apart before its parts are compared.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from rmeeto.ops.impl.triton.launch import FUSED, on_device_of, readable, strides
from rmeeto.ops.impl.triton.walk import load

SHORTEST = tl.constexpr(1e-12)  # vectors are divided by this length at least


class Tile(NamedTuple):
    """What one program compares at a time: ``rows`` with ``columns``, over so many ``features``."""

    rows: int
    columns: int
    features: int
    warps: int = 4


# A product keeps 16 sums per thread. Distances have no matrix product: 64 differences per thread instead.
PRODUCTS, DIFFERENCES = Tile(32, 64, 32), Tile(16, 32, 16)


def find_nearest(a: Tensor, b: Tensor, distance: str, nth: int, reach: int) -> tuple[Tensor, Tensor]:
    """Return similarity and index (b, n) of `rmeeto.ops.find_nearest`."""
    return find_nearest_at(a, b, None, None, distance, nth, reach)


def find_nearest_at(
    a: Tensor,
    b: Tensor,
    a_at: Tensor | None,
    b_at: Tensor | None,
    distance: str,
    nth: int,
    reach: int,
    tile: Tile | None = None,
    precision: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the same for the rows of ``a`` and ``b`` at positions (b, n) and (b, m) int64, contiguous; None: all.

    ``tile`` and ``precision`` (of the products, as `triton.language.dot` names it) override the rules, for
    measurements.
    """
    rows, columns = ((x if at is None else at).shape[1] for x, at in ((a, a_at), (b, b_at)))
    similarity = a.new_empty((a.shape[0], rows), dtype=torch.float32)
    index = similarity.new_empty(similarity.shape, dtype=torch.int64)
    if not index.numel():
        return similarity, index
    a, b = readable(a, b)
    tile = tile or (PRODUCTS if distance == "cosine" else DIFFERENCES)
    with on_device_of(a):
        # fmt: off
        _nearest[(a.shape[0] * triton.cdiv(rows, tile.rows),)](
            a, b, a_at, b_at, similarity, index,
            rows, columns, a.shape[2], min(nth, columns), reach, *strides(a, b),
            DISTANCE=distance, PRECISION=precision or _precision(a.dtype),
            ROWS=tile.rows, COLUMNS=tile.columns, FEATURES=tile.features,
            num_warps=tile.warps, enable_fp_fusion=FUSED,
        )
        # fmt: on
    return similarity, index


def _precision(storage: torch.dtype) -> str:
    """Return how products are taken. TF32 would scramble near ties of float32, but holds 16-bit numbers exactly.

    So half storage runs on the tensor cores with exact products, and float32 on the ordinary units; ``tf32x3`` would
    bring the tensor cores to float32 as well, and is to be taken when a device has shown that it decides alike. AMD
    devices lack TF32 or have it not everywhere.
    """
    return "ieee" if storage == torch.float32 or torch.version.hip else "tf32"


# Prediction: at (128, 98 × 98, 384), 38 MB in float32 are 9 µs and 0.94 GFLOP 14 µs at 67 TFLOP/s, twice that with the
# operands in shared memory: arithmetic bound. In bfloat16 19 MB are 4.5 µs, the products 2 µs: a launch costs as much.
# fmt: off
@triton.jit(do_not_specialize=["rows", "columns", "nth", "reach"])
def _nearest(
    a_ptr, b_ptr, a_at_ptr, b_at_ptr, similarity_ptr, index_ptr,
    rows, columns, features, nth, reach, a_batch, a_row, b_batch, b_row,
    DISTANCE: tl.constexpr, PRECISION: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, FEATURES: tl.constexpr,
):
    # fmt: on
    blocks = tl.cdiv(rows, ROWS)
    image = (tl.program_id(0) // blocks).to(tl.int64)
    first_row = tl.program_id(0) % blocks * ROWS
    row = first_row + tl.arange(0, ROWS)
    a_rows = _rows_at(a_ptr + image * a_batch, a_row, a_at_ptr, image, row, rows)
    b_ptr += image * b_batch
    low, high = tl.maximum(row - reach, 0), tl.minimum(row + reach, columns)
    first, last = tl.maximum(first_row - reach, 0), tl.minimum(first_row + ROWS - 1 + reach, columns)

    best = tl.full((ROWS,), float("-inf"), tl.float32)
    index = low  # stays where nothing compares: NaN
    bound = tl.full((ROWS,), float("inf"), tl.float32)
    bound_index = tl.full((ROWS,), -1, tl.int32)
    for _ in range(nth):
        found = tl.full((ROWS,), float("-inf"), tl.float32)
        found_index = index
        for start in range(first, last, COLUMNS):
            column = start + tl.arange(0, COLUMNS)
            b_rows = _rows_at(b_ptr, b_row, b_at_ptr, image, column, columns)
            score = _similarity(
                a_rows, b_rows, row < rows, column < columns, features, DISTANCE, PRECISION, ROWS, COLUMNS, FEATURES
            )
            seen = (column[None, :] >= low[:, None]) & (column[None, :] < high[:, None])
            tied = (score == bound[:, None]) & (column[None, :] > bound_index[:, None])
            behind = (score < bound[:, None]) | tied
            score = tl.where(seen & behind, score, float("-inf"))
            top, at = tl.max(score, axis=1, return_indices=True, return_indices_tie_break_left=True)
            better = top > found
            found = tl.where(better, top, found)
            found_index = tl.where(better, start + at, found_index)
        any_left = found > float("-inf")
        best = tl.where(any_left, found, best)
        index = tl.where(any_left, found_index, index)
        bound = best
        bound_index = index

    if DISTANCE == "cosine":
        best *= _inverse_length(a_rows, row < rows, features, ROWS, FEATURES)
    out = image * rows + row
    tl.store(similarity_ptr + out, best, mask=row < rows)
    tl.store(index_ptr + out, index.to(tl.int64), mask=row < rows)


@triton.jit
def _rows_at(ptr, stride, at_ptr, image, number, count):
    """Return where the rows of one image begin, of which ``at_ptr``, if present, holds the positions."""
    place = number.to(tl.int64)
    if at_ptr is not None:
        place = tl.load(at_ptr + image * count + number, mask=number < count, other=0)
    return ptr + place * stride


@triton.jit
def _similarity(
    a_rows, b_rows, a_exists, b_exists, features,
    DISTANCE: tl.constexpr, PRECISION: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, FEATURES: tl.constexpr,
):  # fmt: skip
    """Return (ROWS, COLUMNS) similarities; the cosine's still times the length of a's row, which ranks alike."""
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    squares = tl.zeros((COLUMNS,), tl.float32)
    for start in range(0, features, FEATURES):
        feature = start + tl.arange(0, FEATURES)
        inside = feature < features
        a = load(a_rows[:, None] + feature[None, :], a_exists[:, None] & inside[None, :])
        b = load(b_rows[:, None] + feature[None, :], b_exists[:, None] & inside[None, :])
        if DISTANCE == "cosine":
            total = tl.dot(a, tl.trans(b), total, input_precision=PRECISION)
            squares += tl.sum(b * b, axis=1)
        else:
            apart = a[:, None, :] - b[None, :, :]
            apart = tl.abs(apart) if DISTANCE == "l1" else apart * apart
            total += tl.sum(apart, axis=2)
    if DISTANCE == "cosine":
        total *= (1.0 / tl.maximum(tl.sqrt(squares), SHORTEST))[None, :]
    elif DISTANCE == "l1":
        total = -total
    else:
        total = -tl.sqrt_rn(total)
    return total


@triton.jit
def _inverse_length(rows, exists, features, ROWS: tl.constexpr, FEATURES: tl.constexpr):
    """Return one over the length of each row."""
    squares = tl.zeros((ROWS,), tl.float32)
    for start in range(0, features, FEATURES):
        feature = start + tl.arange(0, FEATURES)
        x = load(rows[:, None] + feature[None, :], exists[:, None] & (feature < features)[None, :])
        squares += tl.sum(x * x, axis=1)
    return 1.0 / tl.maximum(tl.sqrt(squares), SHORTEST)
