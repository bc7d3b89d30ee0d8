import pytest

from rmeeto import TokenMerge
from rmeeto.errors import ConfigError
from rmeeto.reduction.protocol import Stack
from rmeeto.reduction.released import ReleasedMerge


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
    ("blocks", "first", "times"),
    [
        ("even", 2, 11),
        ("odd", 1, 12),
        ("all", 1, 23),
        ("lower", 1, 5),
        ("upper", 18, 6),
        ("6::6", 6, 3),
        ("2:9:3", 2, 3),
    ],
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
    ("slope", "counts"),
    [
        (0.0, (8, 8, 8, 8, 8)),
        (-1.0, (16, 12, 8, 4, 0)),
        (1.0, (0, 4, 8, 12, 16)),
        (-0.5, (12, 10, 8, 6, 4)),
        (0.1, (7, 7, 8, 9, 9)),  # sums 7.2, 14.8, 22.8, 31.2, 40, rounded down
    ],
)
def test_a_slope_turns_the_counts_around_their_mean(slope, counts):
    schedule = TokenMerge(r=8, slope=slope).schedule(Stack(12, 197))
    assert tuple(schedule.counts[2::2]) == counts


def test_one_reducing_block_has_no_slope():
    assert TokenMerge(r=8, slope=-1.0, blocks="3:4").schedule(Stack(12, 197)).counts[3] == 8


def test_blocks_make_up_for_what_those_before_them_could_not_give():
    schedule = TokenMerge(ratio=0.5, slope=-1.0).schedule(Stack(8, 33))
    assert schedule.counts[2] == 16
    assert schedule.ratio == pytest.approx(0.5, abs=1 / 33)


@pytest.mark.parametrize("options", [{"r": 11}, {"r": 11, "slope": 0.5}, {"r": (11,) * 11}, {"ratio": 0.25}])
def test_a_minimum_of_tokens_is_left(options):
    assert TokenMerge(**options, minimum=120).schedule(Stack(24, 197)).tokens[-1] == 120


def test_a_model_below_the_minimum_is_left_whole():
    assert TokenMerge(r=11, minimum=500).schedule(Stack(24, 197)).counts == (0,) * 24


def test_blocks_are_taken_in_the_network_s_order():
    backwards = TokenMerge(r=(1, 2, 3), blocks="6:1:-2").schedule(Stack(8, 65))
    assert backwards.counts == (0, 0, 1, 0, 2, 0, 3, 0)


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"r": 99}, "at most half of the patches, 98"),
        ({"r": 500}, "remove 500 tokens"),
        ({"r": (500, *[0] * 10)}, "remove 500 tokens"),
        ({"r": (5, 5)}, "give 11 counts"),
        ({"r": (50,) * 11}, "at most half"),
        ({"r": 60, "slope": -1.0}, "remove 120 tokens at block 2"),
        ({"ratio": 0.9}, "reaches"),
        ({"ratio": 0.3, "minimum": 180}, "reaches"),
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
