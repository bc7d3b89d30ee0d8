import numpy as np
import pytest

from rmeeto.analysis import Ratio, verdicts
from rmeeto.errors import ConfigError

CLAIM = Ratio("Merging is 1.2 times as fast.", stated=1.2)
SLOW, NOISE = np.array([10.0, 10.4, 9.9, 10.1, 10.2]), np.array([1.01, 0.99, 1.0, 1.005, 0.995])


def verdict(claim, left, right):
    return verdicts([claim.judge(left, right)])[0]


@pytest.mark.parametrize(
    ("ratio", "word"),
    [
        (1.2, "holds"),
        (1.3, "holds"),
        (1.32, "undecided"),
        (1.4, "does not hold"),
        (1.09, "undecided"),
        (1.0, "does not hold"),
    ],
)
def test_the_interval_of_the_ratio_decides(ratio, word):
    assert verdict(CLAIM, ratio * SLOW * NOISE, SLOW).word == word


def test_the_interval_is_students_on_logarithms():
    figures = CLAIM.judge(1.2 * SLOW * NOISE, SLOW).figures["ratio"]
    logs = np.log(1.2 * NOISE)
    reach = 2.776445 * logs.std(ddof=1) / 5**0.5
    assert figures.ratio == pytest.approx(np.exp(logs.mean()))
    assert (figures.low, figures.high) == pytest.approx((np.exp(logs.mean() - reach), np.exp(logs.mean() + reach)))


def test_exchanging_the_sides_inverts_the_ratio():
    for ratio in (1.2, 1.31, 1.4):
        inverse = verdict(Ratio("x", stated=1 / 1.2), SLOW, ratio * SLOW * NOISE)
        assert inverse.word == verdict(CLAIM, ratio * SLOW * NOISE, SLOW).word
        assert inverse.p == pytest.approx(verdict(CLAIM, ratio * SLOW * NOISE, SLOW).p)


def test_sentences_name_the_figures_that_decide():
    assert verdict(CLAIM, 1.3 * SLOW * NOISE, SLOW).sentence == (
        "The ratio is 1.3, within 10 % of 1.2 (95 % interval 1.29 to 1.31; 5 paired rounds, "
        "equivalence test by Student's t of the logarithms, p = 0.0124)."
    )
    assert verdict(CLAIM, SLOW * NOISE, SLOW).sentence.startswith("The ratio is 1, not within 10 % of 1.2 (")
    assert verdict(CLAIM, [12.0], [10.0]).sentence == (
        "The ratio is 1.2, which is neither surely within 10 % of 1.2 nor outside (1 paired round)."
    )


@pytest.mark.parametrize(
    ("ratio", "said"),
    [(1.3, "within 10 % of 1.2, which points towards"), (1.34, "not within 10 % of 1.2, which points against")],
)
def test_an_interval_wholly_on_one_side_says_which_and_what_is_in_the_way(ratio, said):
    noise = NOISE if ratio == 1.3 else 1 + (NOISE - 1) * 1.1
    finding = CLAIM.judge(ratio * SLOW * noise, SLOW)
    assert verdicts([finding])[0].word != "undecided"
    open_ = verdicts([finding] * 5)[0]
    assert open_.word == "undecided"
    assert f"its whole interval {said} the claim, but not surely after the correction for 5 claims (" in open_.sentence


def test_one_round_or_equal_rounds_decide_nothing():
    assert verdict(CLAIM, [12.0], [10.0]).word == "undecided"
    assert verdict(CLAIM, [12.0, 12.0], [10.0, 10.0]).word == "undecided"
    assert CLAIM.judge([12.0], [10.0]).figures["ratio"].to_dict()["high"] is None


@pytest.mark.parametrize(
    ("left", "right"), [([], []), ([1, 2], [1]), ([1, 0], [1, 1]), ([1, 2], [1, -1]), ([1, np.nan], [1, 1])]
)
def test_figures_are_positive_and_paired(left, right):
    with pytest.raises(ConfigError):
        CLAIM.judge(left, right)


@pytest.mark.parametrize("numbers", [{"stated": 0}, {"stated": -1.2}, {"stated": 1.2, "margin": 0}, {"stated": np.nan}])
def test_what_is_stated_is_above_zero(numbers):
    with pytest.raises(ConfigError):
        Ratio("x", **numbers)
