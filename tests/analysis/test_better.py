import numpy as np
import pytest

from rmeeto.analysis import Better, by_image, by_seed, image_contrast, seed_contrast, verdicts
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
        "Merging minus pruning is 0.2 points in small, which decides neither way (95 % interval −0.8 to 1.2;"
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
        "Merging minus pruning is 2.10 points, and 3 seeds cannot decide: it takes 6 "
        "(95 % interval 1.85 to 2.35; 3 seeds, t test and sign-flip test, p = 0.25)."
    )
    assert sentence(CLAIM, a=seed_contrast([2.0])) == (
        "Merging minus pruning is 2.0 points, and 1 seed cannot decide: it takes 6 (1 seed, no test, p = 1)."
    )


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
