"""Sentences about planted curves."""

from dataclasses import replace

import pytest

from rmeeto.runtime.doctor import machine
from rmeeto.speed import AgainstReport, Timing

SETTING = (1, "float32")


def report_of(ours, theirs, absent=()):
    """Medians in ms by image size, in rounds without noise. theirs: by engine and size."""
    curves = {("vim", "merge:r=3", True): ours, **{("deit", engine, False): curve for engine, curve in theirs.items()}}
    timings = [
        Timing(size, *SETTING, model, variant, is_ours, (ms,) * 4)
        for (model, variant, is_ours), curve in curves.items()
        for size, ms in curve.items()
    ]
    timings += [Timing(size, *SETTING, "deit", engine, False, absent="no") for engine in absent for size in ours]
    return AgainstReport("vim", "deit", "cpp", 4, {}, machine(), tuple(timings))


@pytest.mark.parametrize(
    ("ours", "words"),
    [
        ({224: 9, 384: 19, 512: 29}, "at every measured size, from 224 px on: 1.11× at 224 px (A)"),
        ({224: 11, 384: 19, 512: 29}, "from 384 px on"),
        ({224: 10, 384: 20, 512: 30}, "at no measured size"),
        ({224: 9, 384: 19, 512: 31}, "only at 224 and 384 px and not beyond"),
        ({224: 9, 384: 21, 512: 29}, "from 512 px on"),
    ],
)
def test_a_sentence_says_from_which_size_on(ours, words):
    # the fastest engine changes with the size
    theirs = {"A": {224: 10, 384: 25, 512: 40}, "B": {224: 15, 384: 20, 512: 30}}
    (sentence,) = report_of(ours, theirs).sentences(SETTING)
    assert f"vim, merge:r=3: faster than deit in its fastest engine {words}" in sentence
    assert "at 384 px (B)" in sentence


def test_rounds_that_disagree_are_no_lead():
    report = report_of({224: 9}, {"A": {224: 10}})
    noisy = replace(report.timings[0], milliseconds=(8.0, 9.0, 11.0, 12.0))
    report = replace(report, timings=(noisy, report.timings[1]))
    assert report.crossover([noisy]) is None
    assert "at no measured size" in report.sentences(SETTING)[0]


def test_a_sentence_names_the_engines_that_were_not_measured():
    report = report_of({224: 9}, {"A": {224: 10}}, absent=("B", "C"))
    assert report.sentences(SETTING)[0].endswith("; not measured: B, C")
    rows = report.to_dict()["timings"]
    assert [row["speedup_over_fastest_rival"] is None for row in rows] == [False, False, True, True]
