"""How often verdicts are wrong, counted over simulated tables of which the truth is known."""

from functools import cache

import numpy as np
import pytest

from rmeeto.analysis import Better, Equal, Monotone, Ratio, by_image, by_seed, image_contrast, verdicts

TABLES = 1_000
FEW_TABLES = 60  # where the question is whether an effect is found
IMAGES = 600
ONE_PAIR, TWO_PAIRS = Better("one pair", "a", "b"), Better("two pairs", "a", "b")
EQUAL = {"image": Equal("equal", "a", "b", margin=5.0), "seed": Equal("equal", "a", "b", margin=0.5)}
FALLS = Monotone("falls", "falls")
RATIO = Ratio("ratio", 1.2)

# The true effects, in points (and the true ratio). On the boundary each lies exactly on its margin, where wrong
# verdicts are most frequent, either way.
BOUNDARY = {
    "image": {"one": 0.0, "two": (0.0, 8.0), "apart": 5.0, "fall": 0.0, "ratio": 1.32},
    "seed": {"one": 0.0, "two": (0.0, 3.0), "apart": 0.5, "fall": 0.0, "ratio": 1.32},
}
TRUE = {
    "image": {"one": 8.0, "two": (8.0, 8.0), "apart": 0.0, "fall": 4.0, "ratio": 1.2},
    "seed": {"one": 1.5, "two": (1.5, 2.0), "apart": 0.0, "fall": 1.0, "ratio": 1.2},
}
FALSE = {
    "image": {"one": -8.0, "two": (8.0, -8.0), "apart": 11.0, "fall": -4.0, "ratio": 1.5},
    "seed": {"one": -1.5, "two": (1.5, -1.5), "apart": 2.5, "fall": -1.0, "ratio": 1.5},
}
TRUTHS = {"boundary": BOUNDARY, "true": TRUE, "false": FALSE}


def images(rng, *changes):
    """Correctness of the same images in one network for each change of the accuracy, in points.

    Most images are easy or hard, so that two networks disagree on about one in nine.
    """
    easy = rng.choice([0.06, 0.94], size=IMAGES)
    return [rng.random(IMAGES) < easy + change / 100 for change in changes]


def seeds(number):
    def accuracies(rng, *changes):
        """Accuracies from the same seeds, which explain half of the variance."""
        shared = 60 + rng.normal(0, 0.2, size=number)
        return [shared + rng.normal(0, 0.2, size=number) + change for change in changes]

    return accuracies


WORLDS = {"600 images": ("image", images), "3 seeds": ("seed", seeds(3)), "6 seeds": ("seed", seeds(6))}


def table(rng, unit, cells, *, one, two, apart, fall, ratio):
    """What simulated measurements say of one claim of each kind."""

    def pair(difference):
        return (by_image if unit == "image" else by_seed)(*cells(rng, difference / 2, -difference / 2))

    ladder = dict(zip("wxyz", cells(rng, 1.5 * fall, 0.5 * fall, -0.5 * fall, -1.5 * fall), strict=True))
    slow = rng.lognormal(0, 0.1, size=5)
    return [
        ONE_PAIR.judge({"pair": pair(one)}),
        TWO_PAIRS.judge({"first": pair(two[0]), "second": pair(two[1])}),
        EQUAL[unit].judge({"pair": pair(apart)}),
        FALLS.judge(ladder, unit),
        RATIO.judge(ratio * slow * rng.lognormal(0, 0.02, size=5), slow),
    ]


@cache
def simulated(world, truth, tables=TABLES):
    unit, cells = WORLDS[world]
    rng = np.random.default_rng(20)
    return [table(rng, unit, cells, **TRUTHS[truth][unit]) for _ in range(tables)]


def most(level):
    """The most of 1,000 tables that may go wrong at this level, with three standard errors for chance."""
    return TABLES * level + 3 * (TABLES * level * (1 - level)) ** 0.5


@pytest.mark.parametrize("world", WORLDS)
def test_a_table_rarely_has_a_wrong_verdict(world):
    words = [{verdict.word for verdict in verdicts(found)} for found in simulated(world, "boundary")]
    assert sum("holds" in table for table in words) <= most(0.025)
    assert sum("does not hold" in table for table in words) <= most(0.025)
    assert 0 < sum(table != {"undecided"} for table in words) <= most(0.05)


@pytest.mark.parametrize("world", WORLDS)
def test_sure_claims_of_a_table_make_the_others_no_less_careful(world):
    sure = ONE_PAIR.judge({"pair": image_contrast([1] * 100)})
    words = [[v.word for v in verdicts([sure, *found[1:]])] for found in simulated(world, "boundary")]
    assert {table[0] for table in words} == {"holds"}
    assert 0 < sum(set(table[1:]) != {"undecided"} for table in words) <= most(0.05)


@pytest.mark.parametrize("kind", range(5), ids=["better", "better in both", "equal", "monotone", "ratio"])
@pytest.mark.parametrize("world", WORLDS)
def test_a_claim_by_itself_is_rarely_judged_wrongly(world, kind):
    words = [verdicts([found[kind]])[0].word for found in simulated(world, "boundary")]
    assert words.count("holds") <= most(0.025)
    assert words.count("does not hold") <= most(0.025)
    if world != "3 seeds" or kind in (2, 4):
        assert words.count("undecided") < TABLES, "a test that never decides shows nothing here"


@pytest.mark.parametrize(
    ("truth", "right", "wrong"), [("true", "holds", "does not hold"), ("false", "does not hold", "holds")]
)
@pytest.mark.parametrize("world", ["600 images", "6 seeds"])
def test_planted_effects_are_found(world, truth, right, wrong):
    words = [[v.word for v in verdicts(found)] for found in simulated(world, truth, FEW_TABLES)]
    found = [column.count(right) for column in zip(*words, strict=True)]
    assert min(found) >= 0.7 * FEW_TABLES, found
    assert not any(wrong in table for table in words)


@pytest.mark.parametrize(("truth", "right"), [("true", "holds"), ("false", "does not hold")])
def test_three_seeds_decide_nothing_but_equality_and_ratios(truth, right):
    words = [[v.word for v in verdicts(found)] for found in simulated("3 seeds", truth, FEW_TABLES)]
    found = [column.count(right) for column in zip(*words, strict=True)]
    assert [count > 0 for count in found] == [False, False, True, False, True]
