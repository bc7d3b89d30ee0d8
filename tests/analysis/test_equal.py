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
