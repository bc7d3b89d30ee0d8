import pytest

from rmeeto.analysis import Equal, image_contrast, seed_contrast, verdicts
from rmeeto.errors import ConfigError

CLAIM = Equal("Cosine and l1 do not differ.", "cosine", "l1")
SAME = image_contrast([1] * 20 + [-1] * 22 + [0] * 4958)
APART = image_contrast([1] * 90 + [-1] * 10 + [0] * 4900)
BETWEEN = image_contrast([1] * 60 + [-1] * 30 + [0] * 4910)


def verdict(claim, **pairs):
    return verdicts([claim.judge(pairs)])[0]


def test_the_whole_interval_must_lie_within_the_margin():
    assert verdict(CLAIM, a=SAME).word == "holds"
    assert verdict(CLAIM, a=BETWEEN).word == "undecided"
    assert verdict(CLAIM, a=APART).word == "does not hold"
    assert verdict(CLAIM, a=SAME, b=SAME).word == "holds"
    assert verdict(CLAIM, a=SAME, b=BETWEEN).word == "undecided"
    assert verdict(CLAIM, a=SAME, b=APART).word == "does not hold"


@pytest.mark.parametrize("pair", [SAME, BETWEEN, APART, seed_contrast([0.1, 0.2, 0.0]), seed_contrast([3, 3.1, 2.9])])
@pytest.mark.parametrize("share", [0.999, 1.001])
def test_the_interval_and_the_word_agree(pair, share):
    low, high = pair.mean.interval()
    edge = max(abs(low), abs(high)) / share
    assert (verdict(Equal("x", "a", "b", margin=edge), a=pair).word == "holds") == (share < 1)


def test_exchanging_the_sides_changes_nothing():
    for pair in (SAME, BETWEEN, APART):
        other = image_contrast(-pair.values / 100)
        assert verdict(CLAIM, a=other).word == verdict(CLAIM, a=pair).word
        assert verdict(CLAIM, a=other).p == pytest.approx(verdict(CLAIM, a=pair).p)


def test_three_seeds_can_show_that_there_is_no_difference():
    assert verdict(CLAIM, a=seed_contrast([0.1, 0.05, -0.05])).word == "holds"
    assert verdict(CLAIM, a=seed_contrast([0.4, -0.3, 0.1])).word == "undecided"
    assert verdict(CLAIM, a=seed_contrast([4.0, 4.1, 4.2])).word == "does not hold"


@pytest.mark.parametrize("values", [[0.1], [0.1, 0.1, 0.1], [0.0] * 6], ids=["one", "alike", "six alike"])
def test_seeds_without_spread_decide_nothing(values):
    found = verdict(CLAIM, a=seed_contrast(values))
    assert found.word == "undecided"
    assert "interval" not in found.sentence


def test_the_figures_are_those_of_the_test_that_decides():
    values = [4.0, 4.1, 4.2]
    found = verdict(CLAIM, a=seed_contrast(values))
    figures = found.figures["a"]
    assert figures["margin"] == 0.5
    assert figures["test"] == "equivalence test by Student's t"
    assert figures["test"] in found.sentence
    assert figures["p_outside"] == pytest.approx(found.p)
    assert figures["p_within"] == 1
    assert f"p = {figures['p_outside']:.3g})" in found.sentence
    low, high = seed_contrast(values).mean.interval()
    assert (figures["low"], figures["high"], figures["n"], figures["unit"]) == (low, high, 3, "seed")
    same = verdict(CLAIM, a=SAME)
    assert same.figures["a"]["p_within"] == pytest.approx(same.p)
    assert same.figures["a"]["test"] == "equivalence test by bootstrap"


def test_without_an_interval_there_is_no_test_and_no_p_value():
    one = verdict(CLAIM, a=seed_contrast([0.1]))
    assert one.sentence == "Cosine minus l1 is 0.1 points, and 1 seed cannot decide: it takes 2 (1 seed)."
    alike = verdict(CLAIM, a=seed_contrast([0.1, 0.1, 0.1]))
    assert alike.sentence == (
        "Cosine minus l1 is 0.1 points, and 3 seeds that all differ alike cannot decide (3 seeds)."
    )
    assert [(v.p, v.corrected_for, v.figures["a"]["test"]) for v in (one, alike)] == 2 * [(None, None, "no test")]
    assert [v.decidable for v in (one, alike)] == [False, True]


def test_an_interval_wholly_on_one_side_says_which_and_what_is_in_the_way():
    inside, outside = seed_contrast([0.0, 0.1, 0.2]), seed_contrast([0.8, 0.9, 1.0])
    assert (verdict(CLAIM, a=inside).word, verdict(CLAIM, a=outside).word) == ("holds", "does not hold")
    within = verdicts([CLAIM.judge({"a": inside})] * 3)[0]
    assert within.sentence.startswith(
        "Cosine minus l1 is 0.10 points, its whole interval within ± 0.5, which points towards the claim, but not "
        "surely after the correction for 3 claims (95 % interval −0.15 to 0.35;"
    )
    beyond = verdicts([CLAIM.judge({"a": outside})] * 3)[0]
    assert beyond.sentence.startswith(
        "Cosine minus l1 is 0.90 points, its whole interval outside of ± 0.5, which points against the claim, but not "
        "surely after the correction for 3 claims (95 % interval 0.65 to 1.15;"
    )
    pairs = verdict(CLAIM, a=outside, b=outside, c=outside)
    assert pairs.word == "undecided"
    assert "but not surely after the correction for 3 pairs" in pairs.sentence


def test_of_pairs_that_are_certain_alike_the_closest_is_quoted():
    wide, near = Equal("x", "a", "b", margin=20.0), image_contrast([1] * 300 + [-1] * 300 + [0] * 4400)
    assert wide.judge({"a": SAME}).p_holds == wide.judge({"a": near}).p_holds, "as small as can be computed"
    for pairs in ({"far": SAME, "near": near}, {"near": near, "far": SAME}):
        assert "in the least certain, near, " in verdict(wide, **pairs).sentence


def test_of_undecided_pairs_the_one_most_surely_outside_is_quoted():
    unsure, sure = seed_contrast([0.0, 0.6, 1.2]), seed_contrast([0.6, 0.9, 1.2])  # both means are outside of 0.5
    for pairs in ({"unsure": unsure, "sure": sure}, {"sure": sure, "unsure": unsure}):
        assert "0.9 points in sure, neither surely within" in verdict(CLAIM, **pairs).sentence


def test_ten_images_that_agree_do_not_show_equality_and_five_thousand_do():
    assert verdict(CLAIM, a=image_contrast([0] * 10)).word == "undecided"
    assert verdict(CLAIM, a=image_contrast([0] * 5_000)).word == "holds"


def test_sentences_name_the_figures_that_decide():
    assert verdict(CLAIM, a=SAME).sentence == (
        "Cosine and l1 are equal within 0.5 points: cosine minus l1 is −0.04 points "
        "(95 % interval −0.30 to 0.22; 5,000 images, equivalence test by bootstrap, p = 0.00078)."
    )
    assert verdict(CLAIM, tiny=SAME, small=APART).sentence.startswith(
        "Cosine minus l1 is 1.60 points in small, surely outside of ± 0.5 (95 % interval 1.22 to 2.00;"
    )
    assert verdict(CLAIM, tiny=SAME, small=SAME).sentence.startswith(
        "Cosine and l1 are equal within 0.5 points in both pairs; in the least certain, tiny, cosine minus l1 is −0.04"
    )
    assert verdict(CLAIM, a=seed_contrast([0.4, -0.3, 0.1])).sentence.startswith(
        "Cosine minus l1 is 0.1 points, neither surely within ± 0.5 nor surely outside (95 % interval −0.8 to 0.9;"
    )


@pytest.mark.parametrize("margin", [0, -0.5, float("nan")])
def test_a_margin_is_above_zero(margin):
    with pytest.raises(ConfigError, match="margin"):
        Equal("x", "a", "b", margin=margin)


def test_a_claim_without_pairs_is_refused():
    with pytest.raises(ConfigError, match="no comparisons"):
        CLAIM.judge({})
