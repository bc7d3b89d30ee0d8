from dataclasses import replace

import numpy as np
import pytest

from rmeeto.analysis import Better, by_image, by_seed, compare, image_contrast, seed_contrast, verdicts
from rmeeto.analysis.words import obstacle
from rmeeto.errors import ConfigError

CLAIM = Better("Merging is better than pruning.", "merging", "pruning")
UP, DOWN = image_contrast([1] * 30 + [0] * 970), image_contrast([-1] * 40 + [0] * 960)
SLIGHT = image_contrast([1] * 12 + [-1] * 10 + [0] * 978)


def word(claim, **pairs):
    return verdicts([claim.judge(pairs)])[0].word


def sentence(claim, **pairs):
    return verdicts([claim.judge(pairs)])[0].sentence


def test_every_pair_must_be_better():
    assert word(CLAIM, a=UP) == "holds"
    assert word(CLAIM, a=UP, b=UP) == "holds"
    assert word(CLAIM, a=UP, b=SLIGHT) == "undecided"
    assert word(CLAIM, a=UP, b=DOWN) == "does not hold"
    assert word(CLAIM, a=SLIGHT) == "undecided"


def test_several_pairs_share_the_level_against_a_claim():
    worse = image_contrast([-1] * 12 + [1] * 3 + [0] * 985)  # p = 0.035
    assert word(CLAIM, a=worse) == "does not hold"
    assert word(CLAIM, a=worse, b=SLIGHT) == "undecided"


def test_a_margin_must_be_passed():
    assert word(Better("x", "a", "b", margin=1.0), a=UP) == "holds"
    assert word(Better("x", "a", "b", margin=3.0), a=UP) == "undecided"
    assert word(Better("x", "a", "b", margin=5.0), a=UP) == "does not hold"


def test_exchanging_the_sides_mirrors_the_verdict():
    mirror = {"holds": "does not hold", "does not hold": "holds", "undecided": "undecided"}
    for pair in (UP, DOWN, SLIGHT):
        assert word(CLAIM, a=image_contrast(-pair.values / 100)) == mirror[word(CLAIM, a=pair)]
    seeds = [60.0, 60.4, 60.2, 61.0, 60.5, 60.1], [59.0, 59.3, 58.8, 60.1, 59.6, 59.2]
    assert word(CLAIM, a=by_seed(*seeds)) == "holds"
    assert word(CLAIM, a=by_seed(*seeds[::-1])) == "does not hold"


def test_sentences_name_the_figures_that_decide():
    assert sentence(CLAIM, a=UP) == (
        "Merging is better than pruning by 3.0 points "
        "(95 % interval 1.9 to 4.1; 1,000 images, exact McNemar test, p < 0.0001)."
    )
    assert sentence(CLAIM, a=DOWN, small=UP).startswith(
        "Merging is worse than pruning by 4.0 points in a (95 % interval 2.8 to 5.3;"
    )
    assert sentence(CLAIM, tiny=UP, small=SLIGHT).startswith(
        "Merging is surely better than pruning in 1 of 2 pairs, each by itself; "
        "merging minus pruning is 0.2 points in small, which decides neither way (95 % interval −0.8 to 1.2;"
    )
    assert sentence(CLAIM, tiny=UP, small=UP).startswith(
        "Merging is better than pruning in both pairs; in the closest, tiny, by 3.0 points ("
    )
    wide = Better("x", "the loss of Vim", "the loss of DeiT", margin=1.0, more="higher", less="lower")
    assert sentence(wide, a=UP).startswith(
        "The loss of Vim is higher than the loss of DeiT by 3.0 points, more than the margin of 1 ("
    )
    assert sentence(wide, a=SLIGHT).startswith(
        "The loss of Vim minus the loss of DeiT is 0.2 points, which decides neither way about the margin of 1 ("
    )
    assert sentence(wide, a=DOWN).endswith("paired bootstrap, p < 0.0001).")


def test_too_few_seeds_are_said_to_be_too_few():
    three = seed_contrast([2.0, 2.1, 2.2])
    assert word(CLAIM, a=three) == "undecided"
    assert sentence(CLAIM, a=three) == (
        "Merging minus pruning is 2.10 points, which points towards the claim, but 3 seeds cannot decide: it takes 6 "
        "(95 % interval 1.85 to 2.35; 3 seeds, t test and sign-flip test, p = 0.25)."
    )
    assert sentence(CLAIM, a=seed_contrast([2.0])) == (
        "Merging minus pruning is 2.0 points, and 1 seed cannot decide: it takes 6 (1 seed)."
    )


def test_one_seed_has_neither_a_test_nor_a_p_value():
    one = verdicts([CLAIM.judge({"a": seed_contrast([2.0])})])[0]
    assert (one.p, one.corrected_for, one.decidable) == (None, None, False)
    beside = verdicts([CLAIM.judge({"a": seed_contrast([2.0]), "b": SLIGHT})])[0]
    assert "(1 seed)" in beside.sentence, "the other pair's p-value does not stand beside this one"
    assert beside.decidable


LEANS = [0.1, 0.4, 0.5, 0.6, 0.7, -0.02]  # its interval excludes 0, but of the 64 patterns of signs two are as large


@pytest.mark.parametrize(("sign", "leaning"), [(1, "towards"), (-1, "against")])
def test_an_interval_on_one_side_says_which_and_what_is_in_the_way(sign, leaning):
    three = sentence(CLAIM, a=seed_contrast([sign * 2.0, sign * 2.1, sign * 2.2]))
    assert f", which points {leaning} the claim, but 3 seeds cannot decide: it takes 6 (" in three
    six = sentence(CLAIM, a=seed_contrast([sign * value for value in LEANS]))
    assert f", which points {leaning} the claim, but the two tests do not both agree (" in six


def test_an_interval_that_the_test_does_not_confirm_is_said_to_be_one():
    doubtful = replace(compare(UP), p_above=0.03)
    assert obstacle(doubtful, "towards") == "the exact McNemar test does not confirm it"
    assert obstacle(doubtful.mirrored(), "against") == "the exact McNemar test does not confirm it"
    assert obstacle(compare(UP), "towards") is None


def test_a_margin_that_an_interval_passes_is_named():
    pair = seed_contrast([2.0, 2.1, 2.2])
    assert " is 2.10 points, more than the margin of 1, which points towards the claim, but " in sentence(
        Better("x", "a", "b", margin=1.0), a=pair
    )
    assert " is −2.10 points, less than the margin of −0.9, which points against the claim, but " in sentence(
        Better("x", "a", "b", margin=-0.9), a=seed_contrast(-pair.values)
    )
    assert "neither way about the margin of −0.5 (" in sentence(
        Better("x", "a", "b", margin=-0.5), a=image_contrast([-1] * 8 + [1] * 2 + [0] * 990)
    )


def test_several_pairs_are_counted_each_by_itself():
    margin = Better("x", "a", "b", margin=1.0)
    assert sentence(margin, one=UP, two=UP, three=SLIGHT).startswith(
        "a minus b is surely above the margin of 1 in 2 of 3 pairs, each by itself; a minus b is 0.2 points in three"
    )
    assert sentence(CLAIM, one=SLIGHT, two=SLIGHT).startswith(
        "Merging is surely better than pruning in none of 2 pairs, each by itself; merging minus"
    )
    worse = image_contrast([-1] * 12 + [1] * 3 + [0] * 985)  # p = 0.035
    assert sentence(CLAIM, one=worse, two=UP).startswith(
        "Merging is surely better than pruning in 1 of 2 pairs and surely worse in 1, each by itself; merging minus "
        "pruning is −0.9 points in one, which points against the claim, but not surely after the correction for 2 pairs"
    )
    three_seeds = seed_contrast([2.0, 2.1, 2.2])
    assert sentence(CLAIM, one=three_seeds, two=three_seeds).startswith("Merging minus"), "no pair could be sure"


def test_of_pairs_that_are_certain_alike_the_closest_is_quoted():
    near, far = (image_contrast([2] * many + [0] * (1000 - many)) for many in (300, 600))
    assert CLAIM.judge({"a": near}).p_holds == CLAIM.judge({"a": far}).p_holds < 1e-11, "as small as can be computed"
    for pairs in ({"far": far, "near": near}, {"near": near, "far": far}):
        assert "in the closest, near, by 60.0 points" in sentence(CLAIM, **pairs)


@pytest.mark.parametrize(
    "pair",
    [by_image([1, 1, 0], [1, 1, 0]), image_contrast([1]), by_seed([50.0] * 6, [50.0] * 6), seed_contrast([3, 3, 3])],
    ids=["no image differs", "one image", "equal seeds", "three seeds that differ alike"],
)
def test_without_evidence_nothing_is_decided(pair):
    assert word(CLAIM, a=pair) == "undecided"


def test_the_other_side_of_a_claim_can_be_shown_where_the_claim_itself_cannot():
    three = seed_contrast([2.0, 2.1, 2.2])
    assert word(CLAIM, a=three, b=DOWN) == "does not hold"
    assert word(CLAIM, a=three, b=UP) == "undecided"


@pytest.mark.parametrize("margin", [np.nan, np.inf, "1 point"])
def test_a_margin_is_a_finite_number(margin):
    with pytest.raises(ConfigError, match="margin"):
        Better("x", "a", "b", margin=margin)


def test_a_claim_without_pairs_is_refused():
    with pytest.raises(ConfigError, match="Untestable"):
        CLAIM.judge({})
