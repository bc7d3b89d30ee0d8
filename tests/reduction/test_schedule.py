import pytest

from rmeeto import TokenMerge
from rmeeto.errors import ConfigError
from rmeeto.reduction.released import ReleasedMerge
from rmeeto.reduction.schedule import Stack


@pytest.mark.parametrize(("r", "ratio"), [(5, 0.14), (10, 0.28), (11, 0.31), (15, 0.42), (20, 0.54)])
def test_ratios_of_the_paper(r, ratio):
    assert round(TokenMerge(r=r).schedule(Stack(24, 197)).ratio, 2) == ratio


def test_tokens_of_the_paper():
    assert TokenMerge(r=5).schedule(Stack(24, 197)).tokens[-1] == 142
    assert TokenMerge(r=11).schedule(Stack(24, 197)).tokens[-1] == 76
    assert TokenMerge(r=20).schedule(Stack(24, 197)).tokens[-5::2] == (19, 10, 6)
    tokens = TokenMerge(r=11).schedule(Stack(24, 197)).tokens
    assert tokens[:5] == (197, 197, 186, 186, 175)
    assert TokenMerge(r=0).schedule(Stack(24, 197)).tokens == (197,) * 24


@pytest.mark.parametrize("every_and_r", [(4, 11), (6, 18), (8, 28)])
def test_intervals_leave_what_the_paper_leaves_when_the_last_count_is_given(every_and_r):
    every, r = every_and_r
    times = len(range(every, 24, every))
    counts = [r] * (times - 1) + [55 - r * (times - 1)]
    assert TokenMerge(r=counts, blocks=f"{every}::{every}").schedule(Stack(24, 197)).tokens[-1] == 142


@pytest.mark.parametrize(
    ("blocks", "first", "times"), [("even", 2, 11), ("odd", 1, 12), ("all", 1, 23), ("6::6", 6, 3), ("2:9:3", 2, 3)]
)
def test_blocks(blocks, first, times):
    counts = TokenMerge(r=3, blocks=blocks).schedule(Stack(24, 197)).counts
    chosen = [block for block, count in enumerate(counts) if count]
    assert (chosen[0], len(chosen)) == (first, times)


@pytest.mark.parametrize("ratio", [0.0, 0.05, 0.14, 0.31, 0.42, 0.5])
@pytest.mark.parametrize(("depth", "tokens"), [(24, 197), (8, 65), (24, 730)])
def test_a_target_ratio_is_met_within_one_token_per_block(ratio, depth, tokens):
    schedule = TokenMerge(ratio=ratio).schedule(Stack(depth, tokens))
    assert abs(schedule.ratio - ratio) < 1 / tokens
    chosen = [count for count in schedule.counts if count]
    assert ratio > 0.4 or not chosen or max(chosen) - min(chosen) <= 1


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"r": 99}, "at most half of the patches, 98"),
        ({"r": (5, 5)}, "give 11 counts"),
        ({"r": (50,) * 11}, "at most half"),
        ({"ratio": 0.9}, "reaches"),
        ({"r": 5, "blocks": "0::2"}, "block 0"),
        ({"r": 5, "blocks": "30::2"}, "no block"),
        ({"r": 5, "blocks": "evn"}, "neither a name"),
        ({"r": 5, "blocks": "1::0"}, "neither a name"),
    ],
)
def test_impossible_schedules_say_why(options, hint):
    with pytest.raises(ConfigError, match=hint):
        TokenMerge(**options).schedule(Stack(24, 197))


def test_released_last_merge():
    assert ReleasedMerge(r=5, final=142).schedule(Stack(24, 197)).tokens[-1] == 142
    assert ReleasedMerge(r=5, final=76).schedule(Stack(24, 197)).counts[22] == 71
    assert ReleasedMerge(r=0, final=76).schedule(Stack(24, 197)).tokens[-1] == 99
    assert ReleasedMerge(r=18, every=6, final=142).schedule(Stack(24, 197)).counts[18] == 19
