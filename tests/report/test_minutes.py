"""The chart of minutes shows what was predicted."""

import pytest

from rmeeto.report.minutes import minutes_figure
from rmeeto.speed import Job, Machines, Reading, doublings, predict

JOB = Job(images=1_281_167, parameters=26_000_000, batch=704, passes=2)
PAPER = {8: 25.2, 16: 12.9, 32: 6.8}


def curve_of(reading=None):
    return [predict(JOB, each, 330, reading) for each in doublings(Machines(8, 4))]


def names(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_lines_are_the_predicted_and_the_papers_minutes():
    curve = curve_of()
    axes = minutes_figure(curve, title="a", paper=PAPER).axes[0]
    lines = {line.get_label(): dict(zip(*line.get_data(), strict=True)) for line in axes.get_lines()}
    assert lines["predicted"] == {one.machines.devices: one.total_minutes for one in curve}
    assert lines["paper, Table 3"] == PAPER
    assert lines["if n GPUs took 1/n"][32] == pytest.approx(curve[0].total_minutes / 32)
    assert "paper, Table 3" not in names(minutes_figure(curve, title="a", paper={}).axes[0])


def test_bars_are_shares_of_the_whole_and_parts_that_would_not_be_seen_have_no_name():
    curve = curve_of()
    axes = minutes_figure(curve, title="a", paper={}).axes[1]
    assert names(axes) == ["training", "evaluation", "starting up"]
    heights = [sum(bars[place].get_height() for bars in axes.containers) for place in range(len(curve))]
    assert heights == pytest.approx([100] * len(curve), abs=0.5)
    slow = minutes_figure(curve_of(Reading(images_per_second=100, cores=16)), title="a", paper={})
    assert "waiting for images" in names(slow.axes[1])


def test_a_dollar_in_a_title_is_a_dollar():
    assert minutes_figure(curve_of(), title="runs/$r$", paper={}).get_suptitle() == "runs/$r$"
