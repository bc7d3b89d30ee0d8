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
    assert both.sentence.startswith(
        "The change of the line fitted to the accuracies is −26.8 points from r=0 to r=3; "
        "from r=1 to r=2 it goes the other way by 0.8 points, which points against the claim, "
        "but not surely after the correction for 2 claims (95 % interval 0.2 to 1.4;"
    )


def test_the_trend_is_the_change_of_the_fitted_line():
    cells = {"a": [60.0, 61.0, 60.0], "b": [59.0, 59.5, 58.0], "c": [58.5, 58.0, 58.0], "d": [55.0, 56.0, 54.0]}
    expected = [3 * np.polyfit(range(4), [cell[seed] for cell in cells.values()], 1)[0] for seed in range(3)]
    trend = next(iter(FALLS.judge(cells, "seed").figures.values()))
    assert trend.difference == pytest.approx(np.mean(expected))
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
    assert verdict(RISES, cells).sentence.startswith("The line fitted to the accuracies falls by")


def test_a_margin_is_one_of_the_whole_trend():
    cells = images(700, 680, 660)
    assert verdict(Monotone("x", "falls", margin=2.0), cells).word == "holds"
    assert verdict(Monotone("x", "falls", margin=4.0), cells).word == "undecided"
    found = verdict(Monotone("x", "falls", margin=8.0), cells)
    assert found.word == "does not hold"
    assert found.sentence.startswith(
        "The change of the line fitted to the accuracies is −4.0 points from r=0 to r=2, less than the margin of 8 "
        "(95 % interval −5.3 to −2.8;"
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
        "The line fitted to the accuracies falls by 3.9 points from r=0 to r=3, and no step goes surely the other way "
        "(95 % interval of the change −5.2 to −2.7; 1,000 images, paired bootstrap, p < 0.0001)."
    )
    assert verdict(RISES, images(660, 680, 690, 700)).sentence.startswith(
        "The line fitted to the accuracies rises by 3.9 points from r=0 to r=3, and no step goes surely the other way "
        "(95 % interval 2.7 to 5.2;"
    )
    assert verdict(FALLS, images(700, 699, 699)).sentence.startswith(
        "The change of the line fitted to the accuracies is −0.10 points from r=0 to r=2, which decides neither way ("
    )


def test_of_two_cells_no_line_is_told():
    assert verdict(FALLS, images(700, 660)).sentence.startswith("Accuracy falls by 4.0 points from r=0 to r=1, ")
    assert verdict(FALLS, images(700, 699)).sentence.startswith("The change of accuracy is −0.10 points from r=0 ")


def test_figures_and_sentences_have_the_signs_of_the_changes():
    cells = images(700, 690, 692, 660)
    falls, rises = verdict(FALLS, cells), verdict(RISES, cells)
    assert [one["difference"] for one in falls.figures.values()] == pytest.approx([-3.54, -1.0, 0.2, -3.2])
    assert rises.figures.keys() == falls.figures.keys()
    for name, one in falls.figures.items():
        other = rises.figures[name]
        for end in ("difference", "low", "high", "margin", "p_above", "p_below"):
            assert other[end] == pytest.approx(one[end], abs=1e-9), "whatever is claimed"
            assert str(one[end]) != "-0.0"
    line = falls.figures["r=0 to r=3, fitted"]
    shown = f"of the change {line['low']:.1f} to {line['high']:.1f};".replace("-", "−")
    assert shown in falls.sentence
    assert verdict(Monotone("x", "falls", margin=2.0), cells).figures["r=0 to r=3, fitted"]["margin"] == -2


def test_a_trend_on_one_side_says_which_and_what_is_in_the_way():
    slight = FALLS.judge(images(700, 697, 694), "image")  # six images: p = 0.031
    assert verdicts([slight])[0].word == "holds"
    assert (
        "−0.6 points from r=0 to r=2, which points towards the claim, but not surely after the correction for 2 claims"
    ) in verdicts([slight, slight])[0].sentence
    contrary = RISES.judge(images(700, 697, 694), "image")
    assert (
        "−0.6 points from r=0 to r=2, which points against the claim, but not surely after the correction for 3 tests"
    ) in verdicts([contrary])[0].sentence


def test_one_seed_has_neither_a_test_nor_a_p_value():
    found = verdict(FALLS, {"a": [60.0], "b": [50.0], "c": [45.0]}, "seed")
    assert found.sentence == (
        "The change of the line fitted to the accuracies is −15.0 points from a to c, "
        "and 1 seed cannot decide: it takes 6 (1 seed)."
    )
    assert found.p is None


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
