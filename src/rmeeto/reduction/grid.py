"""Grid: where tokens lie in the image, and which of them lie near each other there.

A scan goes row by row, so the patch above another is a whole row away in the sequence. No extra state is needed: the
plans say which patches every token stands for.
"""

from __future__ import annotations

from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from rmeeto.ops.autocast import without_autocast
from rmeeto.ops.nearest import Distance
from rmeeto.ops.pairs import Pairs
from rmeeto.ops.rows import patch_positions, take
from rmeeto.reduction.scores import CELLS, at_least_float32
from rmeeto.reduction.tokens import Tokens

Grid = tuple[int, int]
ROUNDING = 1e-3  # by which a mean of whole numbers may miss a distance that it should have


@torch.no_grad()
def patch_places(tokens: Tokens, grid: Grid, time: int = 1) -> Tensor:
    """Frame, row and column of every patch that is left, ``(b, n, 3)`` float32.

    A merged token lies at the mean of all patches that it stands for, so where its members do, weighted by their sizes.
    grid: rows and columns of patches in a frame. time: frames of patches at the start.
    """
    (rows, columns), batch, count = grid, tokens.x.shape[0], tokens.length_at_first
    position = torch.arange(count, device=tokens.x.device).expand(batch, -1)
    protected = tokens.origins().gather(1, tokens.protected)
    number = position - (protected[:, None] < position[:, :, None]).sum(-1)
    frame, inside = number // (rows * columns), number % (rows * columns)
    place = torch.stack([frame, inside // columns, inside % columns, torch.ones_like(number)], dim=-1).float()
    group = tokens.group()
    slot = torch.where(group < 0, tokens.length, group)  # one more, for patches that were dropped
    total = place.new_zeros(batch, tokens.length + 1, 4).scatter_add(1, slot[..., None].expand(-1, -1, 4), place)
    patches = take(total, patch_positions(tokens.protected, tokens.length))
    return patches[..., :3] / patches[..., 3:]


def serpentine(places: Tensor, grid: Grid) -> Tensor:
    """Patches in the order of a path that turns round at the end of every row, ``(b, n)`` int64.

    Two patches that follow each other on the whole grid lie side by side, so every second one makes a checkerboard. A
    patch between two rows or frames belongs to the nearer one, of equally near ones the later.

    places: ``(b, n, 3)`` from :func:`patch_places`.
    """
    rows, columns = grid
    frame, row = (places[..., :2] + 0.5).floor().unbind(-1)
    run = frame * rows + torch.where(frame % 2 == 0, row, rows - 1 - row)
    column = torch.where(run % 2 == 0, places[..., 2], columns - 1 - places[..., 2])
    return (run * columns + column).sort(dim=1, stable=True).indices


@torch.no_grad()
def closest_in_grid(
    features: Tensor, places: Tensor, protected: Tensor, r: int, *, grid: Grid, radius: float, distance: Distance
) -> Pairs:
    """Choose r pairs per image: every second patch of the path is a candidate, and joins a target that is near.

    A candidate is compared with the targets at most ``radius`` away in row, column and frame, and the r most similar
    leave. Candidates without a target so near leave last, those first that have the shortest way to one, and join that
    one. Equal targets rank by the path, equal candidates by how near their nearest target is, then by the path.

    features: ``(b, l, f)``. places: ``(b, n, 3)`` from :func:`patch_places`. protected: ``(b, p)``.
    """
    patches, path = patch_positions(protected, features.shape[1]), serpentine(places, grid)
    candidates, targets = path[:, 0::2], path[:, 1::2]
    compared = at_least_float32(take(features, patches))
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for part in torch.split(candidates, max(1, CELLS // targets.shape[1]), dim=1):
        score = similarity(take(compared, part), take(compared, targets), distance)
        gap = (take(places, part)[:, :, None] - take(places, targets)[:, None]).abs().amax(-1)
        score = score.masked_fill(gap > radius + ROUNDING, -torch.inf)
        alike, near = score.max(dim=-1), gap.min(dim=-1)
        choice = torch.where(alike.values == -torch.inf, near.indices, alike.indices)
        found.append((alike.values, near.values, choice))
    likeness, way, partner = (torch.cat(parts, dim=1) for parts in zip(*found, strict=True))
    order = way.sort(dim=1, stable=True).indices
    order = order.gather(1, likeness.gather(1, order).sort(dim=1, descending=True, stable=True).indices)
    candidates, targets = patches.gather(1, candidates), patches.gather(1, targets)
    ranked = candidates.gather(1, order)
    return Pairs(ranked[:, :r], targets.gather(1, partner.gather(1, order[:, :r])), ranked, targets)


def similarity(a: Tensor, b: Tensor, distance: Distance) -> Tensor:
    """The cosine, or minus the l1 or l2 distance, of ``(b, n, f)`` with ``(b, m, f)``: ``(b, n, m)``."""
    with without_autocast(a):
        if distance == "cosine":
            return F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).mT
        return -torch.cdist(a, b, p=1.0 if distance == "l1" else 2.0, compute_mode="donot_use_mm_for_euclid_dist")


def pairs_in_radius(patches: int, grid: Grid, time: int, radius: float) -> int:
    """Pairs of a candidate and a target at most ``radius`` apart.

    That is exact before the first reduction. Later it is an estimate: as many per patch as on the whole grid.
    """
    sides, reach = (time, *grid), int(radius)
    offsets = product(*(range(-min(reach, side - 1), min(reach, side - 1) + 1) for side in sides))
    pairs = 0
    for offset in offsets:
        if sum(offset) % 2:  # patches of one colour of the checkerboard do not meet
            apart = [side - abs(steps) for side, steps in zip(sides, offset, strict=True)]
            pairs += apart[0] * apart[1] * apart[2]
    whole, candidates = time * grid[0] * grid[1], patches - patches // 2
    return min(round(pairs / 2 * patches / whole), candidates * (patches // 2))


def placing_operations(patches: int, time: int) -> float:
    """Operations of the mean places, and of the distances of all candidates and targets."""
    dimensions = 2 if time == 1 else 3
    return 3 * dimensions * (patches + (patches - patches // 2) * (patches // 2))
