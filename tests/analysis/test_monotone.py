import numpy as np
import pytest

from rmeeto.analysis import Monotone, verdicts
from rmeeto.errors import ConfigError, UnknownName

FALLS, RISES = Monotone("Accuracy falls.", "falls"), Monotone("Accuracy rises.", "rises")


def images(*correct, n=1000):
    """Cells in which so many of the images are correct, the same ones first."""
    return {f"r={place}": np.arange(n) < many for place, many in enumerate(correct)}


def verdict(claim, cells, unit="image"):
    return verdicts([claim.judge(cells, unit)])[0]


def test_a_fall_without_a_rise_holds():
    assert verdict(FALLS, images(700, 680, 660)).word == "holds"
    assert verdict(FALLS, images(700, 680, 682, 660)).word == "holds"
    assert verdict(FALLS, images(700, 699, 699)).word == "undecided"
    assert verdict(FALLS, images(700, 700, 700)).word == "undecided"


def test_a_significant_rise_on_the_way_refutes_a_fall():
    found = verdict(FALLS, images(800, 600, 640, 500))
    assert found.word == "does not hold"
    assert found.sentence.startswith("Accuracy rises by 4.0 points from r=1 to r=2 (95 % interval 2.8 to 5.3;")


def test_a_rise_that_is_significant_only_without_the_correction_leaves_it_open():
    cells = images(800, 600, 608, 500)  # eight images against none: p = 0.0078, and 0.047 for six tests
    doubtful = FALLS.judge(cells, "image")
    assert doubtful.p_holds == 1
    assert verdicts([doubtful])[0].word == "does not hold"
    both = verdicts([doubtful, doubtful])[0]
    assert both.word == "undecided"
    assert "but from r=1 to r=2 it goes the other way by 0.8 points (95 % interval 0.2 to 1.4;" in both.sentence


def test_the_trend_is_the_change_of_the_fitted_line():
    cells = {"a": [60.0, 61.0, 60.0], "b": [59.0, 59.5, 58.0], "c": [58.5, 58.0, 58.0], "d": [55.0, 56.0, 54.0]}
    expected = [3 * np.polyfit(range(4), [cell[seed] for cell in cells.values()], 1)[0] for seed in range(3)]
    trend = next(iter(FALLS.judge(cells, "seed").figures.values()))
    assert trend.difference == pytest.approx(-np.mean(expected))
    assert trend.n == 3


def test_the_trend_of_two_cells_is_their_difference():
    trend, step = RISES.judge(images(600, 660), "image").figures.values()
    assert (
        (trend.difference, trend.low, trend.high)
        == (step.difference, step.low, step.high)
        == (6, trend.low, trend.high)
    )


def test_falling_and_rising_mirror_each_other():
    cells = images(700, 680, 660)
    turned = dict(reversed(cells.items()))
    assert verdict(RISES, cells).word == "does not hold"
    assert verdict(RISES, turned).word == "holds"
    assert verdict(RISES, turned).p == pytest.approx(verdict(FALLS, cells).p)
    assert verdict(RISES, cells).sentence.startswith("Accuracy falls by")


def test_a_margin_is_one_of_the_whole_trend():
    cells = images(700, 680, 660)
    assert verdict(Monotone("x", "falls", margin=2.0), cells).word == "holds"
    assert verdict(Monotone("x", "falls", margin=4.0), cells).word == "undecided"
    found = verdict(Monotone("x", "falls", margin=8.0), cells)
    assert found.word == "does not hold"
    assert found.sentence.startswith(
        "The change of accuracy is −4.0 points from r=0 to r=2, less than the margin of 8 (95 % interval −5.3 to −2.8;"
    )


def test_seeds_fall_together():
    start = np.array([60.0, 61.0, 60.5, 59.8, 60.1, 60.7])
    noise = np.array([0.1, -0.1, 0.0, 0.2, -0.2, 0.1])
    six = {"a": start, "b": start - 2 + noise, "c": start - 4 - noise}
    assert verdict(FALLS, six, "seed").word == "holds"
    assert verdict(RISES, six, "seed").word == "does not hold"
    three = verdict(FALLS, {name: cell[:3] for name, cell in six.items()}, "seed")
    assert three.word == "undecided"
    assert "3 seeds cannot decide: it takes 6" in three.sentence


def test_sentences_name_the_figures_that_decide():
    assert verdict(FALLS, images(700, 690, 680, 660)).sentence == (
        "Accuracy falls by 3.9 points from r=0 to r=3, and no step goes surely the other way "
        "(95 % interval 2.7 to 5.2; 1,000 images, paired bootstrap, p < 0.0001)."
    )
    assert verdict(FALLS, images(700, 699, 699)).sentence.startswith(
        "The change of accuracy is −0.10 points from r=0 to r=2, which decides neither way ("
    )


@pytest.mark.parametrize(
    ("cells", "why"),
    [
        ({}, "two cells"),
        ({"a": [1, 0]}, "two cells"),
        ({"a": [1, 0], "b": [1]}, "a: 2, b: 1"),
        ({"a": [1, 0], "b": [1, np.nan]}, "finite"),
        ({"a": [1, 0], "b": [1, 7]}, "correct"),
    ],
)
def test_cells_must_share_their_images(cells, why):
    with pytest.raises(ConfigError, match=why):
        FALLS.judge(cells, "image")


def test_directions_and_units_have_names():
    with pytest.raises(UnknownName, match="falls"):
        Monotone("x", "fall")
    with pytest.raises(UnknownName, match="image"):
        FALLS.judge(images(3, 2, n=4), "images")
    with pytest.raises(ConfigError, match="margin"):
        Monotone("x", "falls", margin=-1)
