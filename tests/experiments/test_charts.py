"""The axis of a chart: every step has its tick, and no two labels touch."""

import re
from itertools import pairwise

import pytest

from experiment_results import result_of
from rmeeto.experiments.charts import AXIS, DIGIT, charts, tick_labels
from rmeeto.experiments.definition import load_table
from rmeeto.experiments.plan import places
from rmeeto.experiments.scale import load_scale
from rmeeto.experiments.store import Store
from rmeeto.experiments.summary import summary

DATA = {"images": "abc", "clips": None}


def test_a_label_that_would_touch_the_one_before_it_is_left_out():
    assert tick_labels([0, 5, 10, 11, 15, 20]) == ["0", "5", "10", "", "15", "20"]
    assert tick_labels([1, 3, 5, 7, 14]) == ["1", "3", "5", "7", "14"]
    assert tick_labels([0.1, 0.3, 0.5, 0.7]) == ["0.1", "0.3", "0.5", "0.7"]
    assert tick_labels([3]) == ["3"]


@pytest.mark.parametrize("steps", [[0, 5, 10, 11, 15, 20], [1, 2, 3, 4, 100], [0.001, 0.01, 0.1, 1], range(8)])
def test_labels_that_are_shown_do_not_touch(steps):
    shown = [(x, text) for x, text in zip(steps, tick_labels(steps), strict=True) if text]
    assert shown[0][0] == steps[0]
    for (left, first), (right, second) in pairwise(shown):
        apart = (right - left) * AXIS / (steps[-1] - steps[0])
        assert apart >= DIGIT * (len(first) + len(second)) / 2


def test_the_charts_of_table_12_have_room_for_their_labels(tmp_path):
    table, store = load_table("12"), Store(tmp_path)
    for place in places(table, load_scale("small"), DATA):
        for cell in place.cells:
            if cell.work != "speed":
                store.add(cell, result_of(cell))
    found = [one for one in charts(summary(table, load_scale("small"), DATA, store)) if "re-trained" in one.caption]
    assert len(found) == 2
    for one in found:
        axis = one.svg.partition('id="' + re.search(r'id="([^"]*matplotlib.axis_1)"', one.svg)[1])[2]
        texts = re.findall(r"<text[^>]*>([^<]*)</text>", axis.partition("matplotlib.axis_2")[0])
        assert texts == ["0", "5", "10", "15", "20", "r"]


def test_predictions_are_not_called_counted(tmp_path):
    (one,) = charts(summary(load_table("3"), load_scale("small"), DATA, Store(tmp_path)))
    assert one.caption.endswith("rings as printed, lines as predicted")
