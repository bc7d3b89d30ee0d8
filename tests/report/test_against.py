"""The chart over image sizes shows what was measured."""

from io import BytesIO

import pytest

from rmeeto.report.against import against_figure, crossing
from rmeeto.runtime.doctor import machine
from rmeeto.speed import AgainstReport, Timing

SIZES = (100, 200, 400)


def report_of(ours, theirs, precisions=("float32",)):
    rows = (("a$b", "none", True, ours), ("deit", "A", False, theirs))
    timings = [
        Timing(size, 2, precision, model, variant, is_ours, (2 * ms,) * 4)
        for precision in precisions
        for model, variant, is_ours, curve in rows
        for size, ms in zip(SIZES, curve, strict=True)
    ]
    timings += [Timing(size, 2, precisions[-1], "deit", "B", False, absent="no") for size in SIZES]
    return AgainstReport("a$b", "deit", "cpp", 4, {}, machine(), tuple(timings))


def test_lines_are_medians_per_image_and_absent_engines_have_none():
    figure = against_figure(report_of((10, 20, 40), (5, 20, 80), precisions=("float32", "bfloat16")))
    assert [panel.get_title(loc="left") for panel in figure.axes] == [
        "float32, 2 images at a time",
        "bfloat16, 2 images at a time",
    ]
    lines = {line.get_label(): list(line.get_ydata()) for line in figure.axes[0].get_lines()}
    assert lines["a$b, unreduced"] == [10, 20, 40]
    assert lines["deit, A"] == [5, 20, 80]
    assert not [label for label in lines if "B" in label]
    assert figure.legends[0].get_texts()[0].get_text() == r"a\$b, unreduced"
    figure.savefig(BytesIO(), format="svg")


def test_a_crossing_is_marked_where_the_lead_changes():
    (panel,) = against_figure(report_of((10, 20, 40), (5, 15, 80))).axes
    marks = [line.get_xdata()[0] for line in panel.get_lines() if line.get_linestyle() == ":"]
    assert marks == [pytest.approx(crossing(SIZES, [0.5, 0.75, 2.0]))]
    (panel,) = against_figure(report_of((10, 20, 40), (20, 40, 80))).axes
    assert [line for line in panel.get_lines() if line.get_linestyle() == ":"] == []


def test_a_crossing_lies_on_the_line_between_the_logarithms():
    assert crossing(SIZES, [0.5, 0.5, 2.0]) == pytest.approx((200 * 400) ** 0.5)
    assert crossing(SIZES, [0.5, 1.0, 2.0]) == pytest.approx(200)
    assert crossing(SIZES, [2.0, 2.0, 2.0]) is None
    assert crossing(SIZES, [0.5, 2.0, 0.5]) is None
    assert crossing(SIZES, [2.0, 0.5, 2.0]) == pytest.approx((200 * 400) ** 0.5)
