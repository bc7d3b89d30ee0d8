"""Tables as CSV and Markdown: read back, they give the same figures."""

import csv
import io
import re

import numpy as np
import pytest

from experiment_results import result_of
from rmeeto.experiments.definition import list_tables, load_table
from rmeeto.experiments.export import COLUMNS, to_csv, to_markdown
from rmeeto.experiments.plan import places
from rmeeto.experiments.scale import load_scale
from rmeeto.experiments.store import Store
from rmeeto.experiments.summary import summary

SMALL, DATA, SEEDS = load_scale("small"), {"images": "abc", "clips": None}, 3


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("store"))
    for place in places(load_table("5a"), SMALL, DATA, SEEDS):
        for cell in place.cells:
            drawn = np.random.default_rng(int(cell.key, 16) % 2**32)
            if place.coordinates["model"] == "vim_tiny" or cell.seed:
                store.add(cell, result_of(cell, drawn.random(300) < 0.6))
    return [summary(load_table(name), SMALL, DATA, store, SEEDS) for name in ("5a", "10")]


def test_csv_has_every_figure_with_all_digits(tables):
    lines = list(csv.DictReader(io.StringIO(to_csv(tables))))
    figures = [figure for one in tables for line in one.figures for figure in line]
    assert len(lines) == len(figures)
    for line, figure in zip(lines, figures, strict=True):
        for name in ("printed", "ours", "spread", "difference"):
            assert (float(line[name]) if line[name] else None) == getattr(figure, name)
        assert (int(line["repetitions"]), int(line["waiting"])) == (figure.n, figure.waiting)
        assert tuple(line["cells"].split()) == figure.keys


def test_csv_has_the_labels_of_all_tables(tables):
    lines = list(csv.DictReader(io.StringIO(to_csv(tables))))
    assert (lines[0]["table"], lines[0]["model"], lines[0]["shuffle"], lines[0]["r"]) == ("5a", "vim_tiny", "0.1", "")
    assert (lines[-1]["table"], lines[-1]["shuffle"], lines[-1]["r"]) == ("10", "", "20")


def test_no_label_has_the_name_of_a_column_of_the_csv():
    labels = {label for name in list_tables() for label in load_table(name).labels()}
    assert not labels & {"table", *COLUMNS}


def test_markdown_has_every_figure_with_the_papers_decimals(tables):
    (one, _), text = tables, to_markdown(tables)
    rows = [line for line in text.splitlines() if line.startswith("| vim_tiny | 0.")]
    assert len(rows) == 4
    for row, figures in zip(rows, one.figures[:4], strict=True):
        found = [cell.strip().replace("−", "-") for cell in row.strip("|").split("|")][2:]
        for place, figure in enumerate(figures):
            printed, ours = found[2 * place : 2 * place + 2]
            assert float(printed) == figure.printed
            assert [float(part) for part in ours.split("±")] == [
                round(part, 1) for part in (figure.ours, figure.spread) if part is not None
            ]
    assert "| vim_small | 0.1 | 61.3 | 1 to run |" in text
    assert re.search(r"\| 0\.\d\d \| 0\.\d\d \| [+−]0\.00 \|", text), "a counted figure has a difference"


def test_markdown_tables_have_as_many_cells_in_every_row(tables):
    rows = re.findall(r"(?:^\|.*\n)+", to_markdown(tables), re.MULTILINE)
    assert len(rows) == 2
    assert all(len({line.count("|") for line in table.splitlines()}) == 1 for table in rows)


def test_markdown_has_every_claim_and_its_word(tables):
    text = to_markdown(tables)
    for one in tables:
        for judged in one.judged:
            assert f"- **{judged.word}**: {judged.claim.text} {judged.sentence}" in text
