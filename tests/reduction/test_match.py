import sys
from itertools import product
from pathlib import Path

import pytest
import torch

from rmeeto import TokenMerge
from rmeeto.errors import ConfigError
from rmeeto.reduction import parse_reduction
from rmeeto.reduction.match import match, matching_operations
from rmeeto.reduction.protocol import Step, Widths
from rmeeto.reduction.tokens import Tokens

sys.path.insert(0, str(Path(__file__).parent))
import naive

PROTECTED = torch.tensor([[0, 3], [11, 0], [22, 21]])  # class token and register, elsewhere in each image


def pairs_of(found, image: int) -> list[tuple[int, int]]:
    return list(zip(found.source[image].tolist(), found.target[image].tolist(), strict=True))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    ("window", "distance", "nth", "length"),
    list(product([1, 2, 3, 6, 100], ["cosine", "l1", "l2"], [1, 2, 5], [23, 24])),
)
def test_local_matching_equals_a_loop(dtype, window, distance, nth, length):
    features, r = torch.randn(3, length, 6, dtype=dtype), 7
    found = match(features, PROTECTED, r, distance=distance, nth=nth, window=window)
    for i in range(3):
        pairs, ranked, targets = naive.choose(
            features[i].tolist(), PROTECTED[i].tolist(), r, distance_name=distance, nth=nth, window=window
        )
        assert pairs_of(found, i) == pairs
        assert found.ranked[i].tolist() == ranked
        assert found.targets[i].tolist() == targets


def test_a_window_over_the_whole_sequence_is_exact_matching():
    features = torch.randn(3, 23, 6)
    wide, exact = match(features, PROTECTED, 7, window=23), match(features, PROTECTED, 7)
    assert torch.equal(wide.source, exact.source)
    assert torch.equal(wide.target, exact.target)


@pytest.mark.parametrize("length", [9, 10])
def test_as_many_tokens_leave_locally_as_can_leave_at_all(length):
    tokens = Tokens(torch.randn(3, length, 6), None, torch.tensor([[4], [0], [8]]))
    r = (length - 1) // 2
    reduced = TokenMerge(r=r, window=1).step(tokens, None, Step(r, 1, 2))
    assert reduced.length == length - r
    assert reduced.sizes().sum(1).tolist() == [length] * 3


def test_local_merging_joins_neighbours_only():
    """Groups are runs of at most three patches: window=1 reaches over no other patch."""
    tokens = Tokens(torch.randn(3, 41, 6), None, torch.full((3, 1), 20))
    group = TokenMerge(r=15, window=1).step(tokens, None, Step(15, 1, 2)).group()
    patches = torch.cat([group[:, :20], group[:, 21:]], dim=1)
    assert (patches.diff(dim=1) >= 0).all()
    assert torch.stack([image.bincount() for image in patches]).max() == 3


def test_random_partners_stay_within_the_window_and_vary():
    features = torch.randn(2, 41, 6)
    protected = torch.full((2, 1), 40)
    draws = [match(features, protected, 20, window=3, pairing="random") for _ in range(20)]
    assert all(((d.source - d.target).abs() <= 3).all() for d in draws)
    partners = [dict(pairs_of(d, 0)) for d in draws]
    assert all(len({p[source] for p in partners}) > 1 for source in range(0, 40, 2))


def test_ranking_at_random_removes_other_candidates():
    features, protected = torch.randn(2, 41, 6), torch.full((2, 1), 40)
    draws = {tuple(match(features, protected, 5, window=1, rank="random").source[0].tolist()) for _ in range(5)}
    assert len(draws) > 1


def test_bfloat16_features_are_compared_in_float32():
    features = torch.randn(2, 41, 6).bfloat16()
    protected = torch.full((2, 1), 40)
    for window in (None, 2):
        half, full = (match(x, protected, 9, window=window) for x in (features, features.float()))
        assert torch.equal(half.source, full.source)
        assert torch.equal(half.target, full.target)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("merge:r=1,window=0", "window=1"),
        ("merge:r=1,window=2,grouping=front-behind", "alternate"),
        ("prune:r=1,window=2,grouping=random", "alternate"),
        ("merge:r=1,window=near", "window takes"),
    ],
)
def test_windows_that_make_no_sense_are_refused(text, hint):
    with pytest.raises(ConfigError, match=hint):
        parse_reduction(text)


def test_the_window_is_part_of_the_text_form():
    assert str(TokenMerge(r=3, window=1)) == "merge:r=3,window=1"
    assert parse_reduction("merge:r=3,window=none") == TokenMerge(r=3)


@pytest.mark.parametrize("patches", [8, 9])
@pytest.mark.parametrize("window", [1, 2, 5, 50])
def test_operations_count_the_pairs_that_are_compared(patches, window):
    widths = Widths(features={"X": 10}, directional=(), moved=20)
    candidates, targets = range(0, patches, 2), range(1, patches, 2)
    pairs = sum(abs(c - t) <= window for c in candidates for t in targets)
    exact, local = (matching_operations(widths, "X", patches, 2, w) for w in (None, window))
    assert exact - local == (len(candidates) * len(targets) - pairs) * 21


def test_the_cost_of_local_matching_is_linear():
    widths = Widths(features={"X": 10}, directional=(), moved=20)
    once, twice = (matching_operations(widths, "X", patches, 0, 1) for patches in (1000, 2000))
    assert twice == pytest.approx(2 * once, rel=1e-3)
