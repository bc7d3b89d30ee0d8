"""Merging among neighbours in two dimensions: who lies near whom, and what moves."""

import sys
from itertools import pairwise, product
from pathlib import Path

import pytest
import torch

import rmeeto
from rmeeto import TokenMerge
from rmeeto.config import ModelConfig
from rmeeto.errors import ConfigError
from rmeeto.models.vim.backbone import VisionMamba
from rmeeto.reduction import TokenPrune, parse_reduction
from rmeeto.reduction.grid import pairs_in_radius, patch_places, serpentine
from rmeeto.reduction.protocol import Stack, Step, Widths
from rmeeto.reduction.tokens import Tokens

sys.path.insert(0, str(Path(__file__).parent))
import naive

GRIDS = [((4, 4), 1), ((3, 5), 1), ((2, 3), 3), ((3, 4), 2)]
WIDTHS = Widths(features={"X": 10}, directional=(), moved=20)


def at(r, grid, time=1):
    return Step(r, block=2, depth=4, time=time, grid=grid)


def cells_of(grid, time=1):
    """Frame, row and column of every patch, in the order of the scan."""
    return list(product(range(time), range(grid[0]), range(grid[1])))


def gap(a, b):
    return max(abs(one - other) for one, other in zip(a, b, strict=True))


def tokens_on(grid, time=1, batch=3, dim=8, protected=None):
    """The class token and a register, in different places of each image."""
    length = grid[0] * grid[1] * time + 2
    return Tokens(
        x=torch.randn(batch, length, dim, dtype=torch.float64),
        residual=torch.randn(batch, length, dim, dtype=torch.float64),
        protected=torch.tensor([[length // 2, 0], [0, 3], [length - 1, length // 2]])[:batch],
    )


def members(tokens, image):
    """What each token stands for: numbers of patches at first, empty for protected tokens."""
    fixed = sorted(tokens.origins()[image][tokens.protected[image]].tolist())
    found = [[] for _ in range(tokens.length)]
    numbers = iter(range(10**6))
    for place, group in enumerate(tokens.group()[image].tolist()):
        if place not in fixed:
            number = next(numbers)
            if group >= 0:
                found[group].append(number)
    return found


def mean_place(numbers, cells):
    return tuple(sum(axis) / len(numbers) for axis in zip(*(cells[number] for number in numbers), strict=True))


def path_of(places, grid):
    def step(number):
        frame, row = (int(x + 0.5) for x in places[number][:2])
        run = frame * grid[0] + (row if frame % 2 == 0 else grid[0] - 1 - row)
        column = places[number][2] if run % 2 == 0 else grid[1] - 1 - places[number][2]
        return run * grid[1] + column, number

    return sorted(range(len(places)), key=step)


def chosen(tokens, image, r, grid, time, radius, distance):
    """Pairs of positions by loops."""
    held = members(tokens, image)
    patches = [place for place in range(tokens.length) if held[place]]
    places = [mean_place(held[place], cells_of(grid, time)) for place in patches]
    path = path_of(places, grid)
    candidates, targets = path[0::2], path[1::2]
    rows, found = tokens.x[image].tolist(), []
    for order, c in enumerate(candidates):
        gaps = [gap(places[c], places[t]) for t in targets]
        near = [k for k, g in enumerate(gaps) if g <= radius + 1e-3]
        score = {k: -naive.distance(rows[patches[c]], rows[patches[targets[k]]], distance) for k in near}
        best = max(near, key=lambda k: (score[k], -k)) if near else gaps.index(min(gaps))
        found.append(((not near, -score[best] if near else 0, min(gaps), order), patches[c], patches[targets[best]]))
    return [pair for _, *pair in sorted(found)[:r]]


@pytest.mark.parametrize(("grid", "time"), GRIDS)
@pytest.mark.parametrize(("radius", "distance"), [(1, "cosine"), (1.5, "l1"), (2, "l2")])
@pytest.mark.parametrize("kind", [TokenMerge, TokenPrune])
def test_equals_a_loop_over_successive_steps(grid, time, radius, distance, kind):
    tokens, method, alone = tokens_on(grid, time), kind(r=1, radius=radius, distance=distance), 0
    for r in (3, 4, 2, 1):
        reduced = method.step(tokens, None, at(r, grid, time))
        plan = reduced.plans[-1]
        assert (plan.kept.diff(dim=1) > 0).all()
        for i in range(3):
            pairs = chosen(tokens, i, r, grid, time, radius, distance)
            assert plan.source[i].tolist() == [source for source, _ in pairs]
            if kind is TokenMerge:
                kept = plan.kept[i]
                assert kept[plan.target[i]].tolist() == [target for _, target in pairs]
            held = members(tokens, i)
            places = [[mean_place(held[place], cells_of(grid, time)) for place in pair] for pair in pairs]
            alone += sum(gap(*ends) > radius + 1e-3 for ends in places)
        tokens = reduced
    assert tokens.length == grid[0] * grid[1] * time + 2 - 10
    assert alone or time > 1 or radius > 1 or kind is TokenPrune  # it did get to candidates that have no target near


def planted(grid, time, alike):
    """Tokens that are all orthogonal but for pairs of cells that are equal; the class token stands in the middle."""
    cells = cells_of(grid, time)
    x = torch.eye(len(cells) + 1, dtype=torch.float64)
    at_cell = [place for place in range(len(cells) + 1) if place != len(cells) // 2]
    for a, b in alike:
        x[at_cell[cells.index(a)]] = x[at_cell[cells.index(b)]]
    return Tokens(x[None], None, torch.tensor([[len(cells) // 2]])), at_cell, cells


def together(tokens, at_cell, cells):
    group = tokens.group()[0].tolist()
    return {
        (a, b)
        for a, b in product(cells, cells)
        if a < b and group[at_cell[cells.index(a)]] == group[at_cell[cells.index(b)]]
    }


SIDES = [((0, 0, 1), (0, 0, 2)), ((0, 1, 3), (0, 2, 3)), ((0, 3, 0), (0, 3, 1)), ((0, 2, 0), (0, 2, 1))]


@pytest.mark.parametrize("grid", [(4, 4), (5, 5), (4, 7)])
def test_neighbours_at_the_side_and_above_merge_and_far_ones_never_do(grid):
    far = [((0, 0, 0), (0, 3, 3)), ((0, 0, 3), (0, 1, 0))]
    tokens, *where = planted(grid, 1, [*SIDES, *far])
    reduced = TokenMerge(r=4, radius=1).step(tokens, None, at(4, grid))
    assert together(reduced, *where) == set(SIDES)
    assert (reduced.origins().diff(dim=1) > 0).all()
    more = TokenMerge(r=7, radius=1).step(tokens, None, at(7, grid))
    assert all(gap(a, b) <= 1 for a, b in together(more, *where) if (a, b) in far)


def test_in_a_clip_neighbours_in_time_merge_too():
    near, far = ((0, 1, 1), (1, 1, 1)), ((0, 0, 0), (2, 0, 1))
    tokens, *where = planted((3, 3), 3, [near, far])
    reduced = TokenMerge(r=1, radius=1).step(tokens, None, at(1, (3, 3), 3))
    assert together(reduced, *where) == {near}


def test_a_merged_token_lies_at_the_mean_of_its_patches():
    tokens = tokens_on((4, 4))
    for r in (6, 4):
        tokens = TokenMerge(r=r, radius=2).step(tokens, None, at(r, (4, 4)))
        places = patch_places(tokens, (4, 4))
        for i in range(3):
            held = [numbers for numbers in members(tokens, i) if numbers]
            expected = torch.tensor([mean_place(numbers, cells_of((4, 4))) for numbers in held])
            torch.testing.assert_close(places[i], expected)


@pytest.mark.parametrize(("grid", "time"), [((1, 5), 1), ((5, 1), 2), *GRIDS])
def test_the_path_goes_from_neighbour_to_neighbour(grid, time):
    cells = cells_of(grid, time)
    path = serpentine(torch.tensor([cells], dtype=torch.float32), grid)[0].tolist()
    assert sorted(path) == list(range(len(cells)))
    for a, b in pairwise(path):
        assert sum(abs(one - other) for one, other in zip(cells[a], cells[b], strict=True)) == 1


@pytest.mark.parametrize(("grid", "time"), GRIDS)
@pytest.mark.parametrize("radius", [1, 1.9, 2, 50])
def test_operations_count_the_pairs_that_are_near(grid, time, radius):
    cells = cells_of(grid, time)
    near = sum(gap(a, b) <= radius and sum(a) % 2 > sum(b) % 2 for a, b in product(cells, cells))
    assert pairs_in_radius(len(cells), grid, time, radius) == near
    everywhere = (len(cells) - len(cells) // 2) * (len(cells) // 2)
    placing = 3 * (2 if time == 1 else 3) * (len(cells) + everywhere)
    for kind in (TokenMerge, TokenPrune):
        exact = kind(r=2).operations(WIDTHS, len(cells), at(2, grid, time))
        found = kind(r=2, radius=radius).operations(WIDTHS, len(cells), at(2, grid, time))
        assert found == exact - (everywhere - near) * 21 + placing


def test_models_and_their_costs_know_the_grid():
    config = ModelConfig(img_size=(16, 24), patch_size=4, stride=4, dim=16, depth=4, state=4, num_classes=3)
    model = VisionMamba(config, TokenMerge(r=4, radius=1, blocks="all"))
    assert {step.grid for step in model.schedule.steps} == {(4, 6)}
    assert rmeeto.flops(model).blocks[1].terms["reduction"] == model.reduction.operations(
        Widths(features={"X": 16}, directional=(), moved=32), 24, at(4, (4, 6))
    )
    tokens = model.eval().trace(torch.randn(2, 3, 16, 24)).final
    assert tokens.length == 25 - 12


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("merge:r=1,radius=0.5", "radius=1"),
        ("merge:r=1,radius=nan", "finite"),
        ("merge:r=1,radius=inf", "finite"),
        ("merge:r=1,radius=1,window=1", "one neighbourhood"),
        ("prune:r=1,radius=1,frames=0", "one neighbourhood"),
        ("merge:r=1,radius=1,nth=2", "nth=2"),
        ("merge:r=1,radius=1,order=dropped", "order is kept"),
        ("merge:r=1,radius=1,shuffle=0.5", "shuffle=0.5"),
    ],
)
def test_what_does_not_go_together_is_refused(line, hint):
    with pytest.raises(ConfigError, match=hint):
        parse_reduction(line)


def test_a_network_without_a_grid_is_refused():
    with pytest.raises(ConfigError, match="no grid"):
        TokenMerge(r=1, radius=1).schedule(Stack(4, 17))


def test_text_form_reads_back():
    for line in ("merge:r=11,radius=1", "prune:ratio=0.31,radius=1.5,blocks=all"):
        method = parse_reduction(line)
        assert parse_reduction(str(method)) == method
