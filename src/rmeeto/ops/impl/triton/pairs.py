"""Pairs of similar rows, in three launches and without a word to the processor: split, search, rank.

Ranking counts how many candidates stand before each one and writes every position straight to its place: no sort, no
copies of what a sort returns. Equal scores rank by position. A protected position that lies outside trips a device
assertion, as in `merge`.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from rmeeto.ops.impl.triton.launch import ASSERTING, on_device_of
from rmeeto.ops.impl.triton.nearest import find_nearest_at

SPLIT_ROWS = 128  # of a program that splits
RANKED, OTHERS = 32, 128  # candidates of a program that ranks, and how many they are compared with at a time


def closest_pairs(
    features: Tensor, protected: Tensor, r: int, distance: str, nth: int, reach: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return source, target, ranked and targets of `rmeeto.ops.closest_pairs`."""
    batch, fixed = protected.shape
    patches = features.shape[1] - fixed
    counts = (r, r, patches - patches // 2, patches // 2, patches - patches // 2)
    source, target, ranked, targets, candidates = (protected.new_empty((batch, count)) for count in counts)
    if not batch:
        return source, target, ranked, targets
    with on_device_of(features):
        _split[(batch * triton.cdiv(patches, SPLIT_ROWS),)](
            protected.contiguous(), candidates, targets, patches, fixed,
            FIXED=triton.next_power_of_2(max(fixed, 1)), ROWS=SPLIT_ROWS, num_warps=4, **ASSERTING,
        )  # fmt: skip
        score, partner = find_nearest_at(features, features, candidates, targets, distance, nth, reach)
        _rank[(batch * triton.cdiv(candidates.shape[1], RANKED),)](
            score, partner, candidates, targets, source, target, ranked,
            *(candidates.shape[1], targets.shape[1], r), ROWS=RANKED, OTHERS=OTHERS, num_warps=4,
        )  # fmt: skip
    return source, target, ranked, targets


# Prediction: 8 bytes per row written; a launch, nothing more.
# fmt: off
@triton.jit(do_not_specialize=["patches", "fixed"])
def _split(
    protected_ptr, candidates_ptr, targets_ptr, patches, fixed, FIXED: tl.constexpr, ROWS: tl.constexpr
):
    # fmt: on
    blocks = tl.cdiv(patches, ROWS)
    image = (tl.program_id(0) // blocks).to(tl.int64)
    number = tl.program_id(0) % blocks * ROWS + tl.arange(0, ROWS)
    protected_ptr += image * fixed
    other = tl.arange(0, FIXED)
    others = tl.load(protected_ptr + other, mask=other < fixed, other=0)
    tl.device_assert((others >= 0) & (others < patches + fixed), "a protected position lies outside of the sequence")

    position = number.to(tl.int64)
    for i in range(fixed):
        protected = tl.load(protected_ptr + i)
        # The row before which a protected one stands has fewer unprotected ones in front of it than its position says.
        before = protected - tl.sum(((others < protected) & (other < fixed)).to(tl.int64), axis=0)
        position += (number >= before).to(tl.int64)

    targets = patches // 2
    half, is_target, exists = number // 2, number % 2 == 1, number < patches
    tl.store(targets_ptr + image * targets + half, position, mask=exists & is_target)
    tl.store(candidates_ptr + image * (patches - targets) + half, position, mask=exists & (number % 2 == 0))


# Prediction: 128 images of 98 candidates are 1.2 million comparisons, 16 of 6,272 630 million: 3 to 40 µs.
# fmt: off
@triton.jit(do_not_specialize=["count", "targets", "r"])
def _rank(
    score_ptr, partner_ptr, candidates_ptr, targets_ptr, source_ptr, target_ptr, ranked_ptr,
    count, targets, r, ROWS: tl.constexpr, OTHERS: tl.constexpr,
):
    # fmt: on
    blocks = tl.cdiv(count, ROWS)
    image = (tl.program_id(0) // blocks).to(tl.int64)
    row = tl.program_id(0) % blocks * ROWS + tl.arange(0, ROWS)
    exists = row < count
    score_ptr += image * count
    score = _comparable(tl.load(score_ptr + row, mask=exists, other=0.0))

    place = tl.zeros((ROWS,), tl.int32)
    for start in range(0, count, OTHERS):
        other = start + tl.arange(0, OTHERS)
        others = _comparable(tl.load(score_ptr + other, mask=other < count, other=0.0))
        tied = (others[None, :] == score[:, None]) & (other[None, :] < row[:, None])
        ahead = ((others[None, :] > score[:, None]) | tied) & (other < count)[None, :]
        place += tl.sum(ahead.to(tl.int32), axis=1)

    taken = exists & (place < r)
    position = tl.load(candidates_ptr + image * count + row, mask=exists, other=0)
    partner = tl.load(partner_ptr + image * count + row, mask=taken, other=0)
    tl.store(ranked_ptr + image * count + place, position, mask=exists)
    tl.store(source_ptr + image * r + place, position, mask=taken)
    tl.store(target_ptr + image * r + place, tl.load(targets_ptr + image * targets + partner, mask=taken), mask=taken)


@triton.jit
def _comparable(score):
    """Return scores that have an order: what is not a number goes last."""
    return tl.where(score == score, score, float("-inf"))
