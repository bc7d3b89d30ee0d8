"""The report page: shows the run's results, loads nothing from elsewhere, and works for every kind of run."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from PIL import Image

from rmeeto.evaluation.results import EpochScore, Results, Row
from rmeeto.recipe import Recipe
from rmeeto.reduction import parse_reduction
from rmeeto.reduction.protocol import Stack
from rmeeto.report import report, timed
from rmeeto.report.charts import loss_chart
from rmeeto.report.words import duration, operations, signed
from rmeeto.runtime.doctor import Machine
from rmeeto.speed import BenchReport, Measurement, Spread
from rmeeto.viz import Panel
from rmeeto.viz import Row as Pictures

MACHINE = Machine("Linux 6.1 (x86_64)", "3.12.1", "A <fast> & small processor", 2, 2, "AVX512", ())
REDUCTION = "merge:ratio=0.31"


def row(name, top1_percent, loss, *, reduced, top5_percent=None):
    return Row(
        name=name,
        top1_percent=top1_percent,
        top5_percent=top5_percent,
        loss=loss,
        gflops_exact=0.00940 if reduced else 0.01352,
        gflops_paper=3.58 if reduced else 5.08,
        tokens=24 if reduced else 65,
        reduction_ratio=0.3115 if reduced else 0.0,
        images_per_second=3317.0 if reduced else 2411.0,
        speedup=1.376 if reduced else 1.0,
        images=500,
    )


@pytest.fixture
def results():
    return Results(
        rows=(
            row("unreduced", 98.6, 0.1255, reduced=False),
            row("reduced", 90.2, 0.3256, reduced=True),
            row("reduced + re-trained", 98.2, 0.1449, reduced=True),
        ),
        epochs=(EpochScore(1, 95.6, 0.218), EpochScore(2, 98.2, 0.145)),
        recipe=Recipe(model="vim_digits", reduction=REDUCTION, data="digits", epochs=2, seed=7).to_toml(),
        output="run",
        seconds=31.4,
        steps=80,
        train_images=1297,
        val_images=500,
        classes=10,
        skipped_images=(),
        skipped_steps=0,
        data_fingerprint="0123456789abcdef0123",
        device="cpu",
        precision="float32",
        backend="cpp",
        processes=1,
        versions={"rmeeto": "0.1.0", "torch": "2.15.0"},
    )


def whole_run(results):
    before, after = row("before training", 9.8, 2.31, reduced=False), row("trained", 98.6, 0.1255, reduced=False)
    recipe = Recipe(model="vim_digits", data="digits", epochs=2).to_toml()
    return replace(results, rows=(before, after), recipe=recipe)


def measured(reduction, images_per_second, speedup, batch):
    return Measurement(
        reduction=reduction,
        batch=batch,
        precision="float32",
        tokens=24,
        reduction_ratio=0.31,
        gflops_exact=0.0094,
        gflops_paper=0.0041,
        latency_ms=Spread(1.0, 0.9, 1.1),
        images_per_second=Spread(images_per_second, 1.0, 2.0),
        speedup=Spread(speedup, speedup - 0.03, speedup + 0.04),
        flops_speedup=1.44,
        reduction_share=0.05,
        peak_memory_mib=None,
    )


def benchmark():
    measurements = (
        measured("none", 777.0, 1.0, batch=1),
        measured(REDUCTION, 666.0, 0.86, batch=1),
        measured("none", 4321.0, 1.0, batch=128),
        measured(REDUCTION, 5876.0, 1.36, batch=128),
    )
    return BenchReport("vim_digits", "cpu", "cpp", False, 15, "2.15.0", MACHINE, measurements)


class Page(HTMLParser):
    """Text, table cells, and everything that a browser might fetch."""

    def __init__(self, html):
        super().__init__()
        self.addresses, self.tags, self.text, self.cells, self._inside = [], [], [], [], False
        self.feed(html)
        self.addresses += re.findall(r"url\((.*?)\)", html) + re.findall(r"@import\s+(\S+)", html)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [v for k, v in attributes if k.split(":")[-1] in ("src", "href", "srcset", "action", "data")]
        self._inside = self._inside or tag in ("td", "th")

    def handle_endtag(self, tag):
        self._inside = self._inside and tag not in ("td", "th")

    def handle_data(self, data):
        self.text.append(data)
        if self._inside and data.strip():
            self.cells.append(data.strip())


def everything(results, **changes):
    log = [{"event": "step", "step": step, "loss": 1 / step} for step in range(1, 9)]
    panels = tuple(Panel(title, Image.new("RGB", (500, 400), "teal")) for title in ("image", "block 2: 52 tokens"))
    options = {
        "command": "rmeeto demo --seconds 120",
        "machine": MACHINE,
        "log": [{"event": "start", "step": 0}, *log],
        "schedule": parse_reduction(REDUCTION).schedule(Stack(8, 65)),
        "speed": benchmark(),
        "pictures": [Pictures(name, panels) for name in ("three", "four", "five")],
    }
    return report(results, **(options | changes))


def test_nothing_comes_from_elsewhere(results):
    html = everything(results)
    page = Page(html)
    assert page.addresses, "the charts refer to their own parts and the pictures are addresses of themselves"
    assert all(address.startswith(("#", "data:image/png;base64,")) for address in page.addresses)
    assert not {"script", "link", "iframe", "object", "embed", "base"} & set(page.tags)
    namespaces = re.findall(r'xmlns(?::\w+)?="[^"]*"', html)
    assert html.count("://") == len(namespaces), "the only addresses are the names of the SVG dialects, never fetched"


def test_ids_are_unique_and_references_resolve(results):
    html = everything(results)
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    assert {a[1:] for a in Page(html).addresses if a.startswith("#")} <= set(ids)


def test_the_table_is_the_rows(results):
    cells = Page(everything(results, speed=None)).cells
    rows = [cells[start + 1 : start + 9] for start in (cells.index(row.name) for row in results.rows)]
    assert rows == [
        ["98.6", "0.126", "13.52 M", "5.08 G", "65", "2,411", "1.00×", "1.00×"],
        ["90.2", "0.326", "9.40 M", "3.58 G", "24", "3,317", "1.38×", "1.44×"],
        ["98.2", "0.145", "9.40 M", "3.58 G", "24", "3,317", "1.38×", "1.44×"],
    ]


def test_a_benchmark_takes_the_place_of_the_evaluations_speed(results):
    page = Page(everything(results))
    assert page.cells[page.cells.index("unreduced") + 6 :][:2] == ["4,321", "1.00×"]
    assert page.cells[page.cells.index("reduced") + 6 :][:2] == ["5,876", "1.36×"]
    text = " ".join(page.text)
    assert "31 % fewer tokens run 1.36× as fast" in text
    assert "between 1.33× and 1.40×" in text
    assert "batch 128" in text


def test_only_speeds_change_when_a_benchmark_times_the_results(results):
    found = timed(results, REDUCTION, benchmark())
    assert [(r.images_per_second, r.speedup) for r in found.rows] == [(4321, 1.0), (5876, 1.36), (5876, 1.36)]
    unchanged = [replace(r, images_per_second=0, speedup=0) for r in results.rows]
    assert [replace(r, images_per_second=0, speedup=0) for r in found.rows] == unchanged


def test_the_headline_holds_when_the_reduced_model_is_slower(results):
    rows = [replace(r, speedup=0.91) if r.reduction_ratio else r for r in results.rows]
    text = " ".join(Page(everything(replace(results, rows=tuple(rows)), speed=None)).text)
    assert "31 % fewer tokens run 0.91× as fast" in text
    assert "98.6 % unreduced, 90.2 % reduced without training, 98.2 % after 2 epochs" in text


def test_what_is_needed_to_do_it_again(results):
    text = " ".join(Page(everything(results)).text)
    for needed in (
        "rmeeto demo --seconds 120",
        REDUCTION,
        "torch 2.15.0",
        MACHINE.processor,
        "seed = 7",
        "0123456789abcdef",
    ):
        assert needed in text


def test_text_is_escaped(results):
    assert "A &lt;fast&gt; &amp; small processor" in everything(results)


def test_a_run_without_reduction_has_no_merging_in_it(results):
    html = everything(whole_run(results), schedule=None, speed=None, pictures=())
    text = " ".join(Page(html).text)
    assert "2 epochs of training took the accuracy from 9.8 to 98.6 %." in text
    assert "Tokens per block" not in text
    assert "What became of the patches" not in text


def test_top5_has_a_column_only_where_it_was_measured(results):
    assert "top-5 %" not in Page(everything(results)).cells
    rows = tuple(replace(r, top5_percent=99.9) for r in results.rows)
    cells = Page(everything(replace(results, rows=rows))).cells
    assert cells.count("99.9") == 3


def test_what_went_wrong_is_told(results):
    text = " ".join(Page(everything(replace(results, skipped_images=("a.jpg: broken",), skipped_steps=2))).text)
    assert "1 left out of training" in text
    assert "2, for a loss that was not finite" in text


def test_a_run_on_clips_is_told_in_clips(results):
    recipe = Recipe(model="videomamba_tiny", model_options={"frames": 8}, reduction=REDUCTION, data="clips").to_toml()
    text = everything(replace(results, recipe=recipe, skipped_images=("a.mp4: broken",)))
    assert "1,297 training and 500 validation clips" in text
    assert "clips/s" in text
    assert "images" not in text.split("Reproduce")[0].replace("merged groups", "")


def test_charts_take_their_colours_from_the_page():
    svg = loss_chart([1, 2, 3], [0.9, 0.5, 0.4]).svg
    assert "var(--trained)" in svg
    assert not re.search(r"#[0-9a-f]{6}\b", svg)
    assert svg == loss_chart([1, 2, 3], [0.9, 0.5, 0.4]).svg


@pytest.mark.parametrize(
    ("gflops", "text"), [(3.5829, "3.58 G"), (18.87, "18.87 G"), (0.0094012, "9.40 M"), (0.1, "0.10 G")]
)
def test_operations(gflops, text):
    assert operations(gflops) == text


@pytest.mark.parametrize(("seconds", "text"), [(31.4, "31 s"), (300, "5 min"), (9000, "2.5 h")])
def test_duration(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(("value", "text"), [(0.42, "+0.4"), (-0.2, "−0.2"), (-0.04, "±0.0"), (0.0, "±0.0")])
def test_signed(value, text):
    assert signed(value) == text


def test_pictures_have_a_column_per_image_a_row_per_stage_and_a_description(results):
    html = everything(results)
    assert [c for c in Page(html).cells if c in ("three", "four", "five")] == ["three", "four", "five"]
    assert re.findall(r'alt="([^"]*)"', html)[3] == "three, block 2: 52 tokens"
    assert html.count("data:image/png;base64,") == 6
