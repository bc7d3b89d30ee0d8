"""Findings made of several: which one is quoted, and what is said of speeds that overlap."""

import numpy as np
import pytest

from rmeeto.analysis import Better, Monotone, Ratio, verdicts
from rmeeto.experiments.combined import every, judge_faster
from rmeeto.experiments.store import Speed

FALLS = Monotone("Accuracy falls.", "falls")


def ladder(*correct, n=1000):
    """A ladder of cells in which so many of the images are correct, the same ones first."""
    return FALLS.judge({f"r={place}": np.arange(n) < many for place, many in enumerate(correct)}, "image")


def sentence(**findings):
    return verdicts([every(findings)])[0].sentence


def test_of_models_that_are_certain_alike_the_one_nearest_to_the_margin_is_quoted():
    steep, flat = ladder(950, 900, 600, 300), ladder(700, 690, 600, 400)
    assert steep.p_holds == flat.p_holds < 1e-11, "as small as can be computed"
    for findings in ({"steep": steep, "flat": flat}, {"flat": flat, "steep": steep}):
        names = " and ".join(findings)
        assert sentence(**findings).startswith(
            f"In {names}; in the least certain, flat, the line fitted to the accuracies falls by 29.7 points from r=0 "
        )


def test_a_smaller_p_value_than_other_tests_can_compute_is_no_more_certain():
    exact, resampled = ladder(900, 500), ladder(950, 900, 600, 200)
    assert exact.p_holds < resampled.p_holds < 1e-11
    assert exact.clearance < resampled.clearance
    assert "in the least certain, exact, accuracy falls by 40.0 points" in sentence(exact=exact, resampled=resampled)


def test_a_less_certain_model_is_quoted_whatever_its_interval():
    steep, slight = ladder(900, 600, 300), ladder(900, 893, 886)
    assert slight.p_holds > steep.p_holds
    assert "in the least certain, slight, " in sentence(slight=slight, steep=steep)


def test_of_ratios_that_are_certain_alike_the_one_nearest_to_the_margin_is_quoted():
    claim, noise = Ratio("Fast.", 1.2), np.array([1.0, 1.0 + 1e-6] * 400)
    middle, edge = (claim.judge(ratio * noise, np.ones(800)) for ratio in (1.2, 1.31))
    assert middle.clearance > edge.clearance > 0
    assert claim.judge(1.33 * noise, np.ones(800)).clearance < 0


def test_the_correction_for_several_models_is_named_where_it_is_in_the_way():
    rise = ladder(700, 706)  # six images, and for two tests p = 0.0625
    assert "but not surely after the correction for 2 tests" in sentence(one=rise)
    more = ladder(700, 707)  # seven images, and for two tests p = 0.031
    assert verdicts([more])[0].word == "does not hold"
    found = verdicts([every({"one": more, "two": ladder(700, 600)})])[0]
    assert found.word == "undecided"
    assert "which points against the claim, but not surely after the correction for 2 comparisons (" in found.sentence


@pytest.mark.parametrize("other", [100.0, 50.0])
def test_speeds_that_overlap_are_undecided_without_a_p_value(other):
    claim = Better("A is faster.", "a", "b")

    def speed(rate):
        return Speed(32, tuple(rate + 5 * np.sin(number) for number in range(20)), (100.0,) * 20)

    pairs = {"even": (speed(100.0), speed(101.0)), "odd": (speed(101.0), speed(other))}
    found = verdicts([judge_faster(claim, pairs)])[0]
    assert (found.word, found.p, found.corrected_for, found.decidable) == ("undecided", None, None, True)
    names = "even and odd" if other == 100.0 else "even"
    assert found.sentence.startswith(f"The rounds overlap in {names} (even: a: 100 images/s, quartiles ")
    assert found.sentence.endswith(").")
