"""A table of the paper in the terminal: no column is cut off, however narrow it is."""

import pytest

from rmeeto.cli.table_result import GAP, headings, label_columns, piece, pieces
from rmeeto.experiments.definition import load_table
from rmeeto.experiments.grid import grid
from rmeeto.experiments.scale import load_scale
from rmeeto.experiments.store import Store
from rmeeto.experiments.summary import summary

DATA = {"images": "abc", "clips": None}


@pytest.fixture(scope="module")
def table_12(tmp_path_factory):
    return grid(summary(load_table("12"), load_scale("small"), DATA, Store(tmp_path_factory.mktemp("store"))))


@pytest.mark.parametrize("width", [60, 80, 110, 160, 300])
def test_every_column_is_shown_once_and_none_is_too_wide(table_12, width):
    found = list(pieces(table_12, width))
    assert [number for groups in found for number in groups] == list(range(len(table_12.groups)))
    labels = sum(GAP + max(map(len, column)) for column in label_columns(table_12))
    for groups in found:
        assert labels + sum(GAP + len(head[0]) for number in groups for head in headings(table_12, number)) <= width


def test_a_wide_terminal_has_one_piece_and_a_tiny_one_has_one_for_each_column(table_12):
    assert len(list(pieces(table_12, 300))) == 1
    assert len(list(pieces(table_12, 1))) == len(table_12.groups)


def test_figures_stand_below_their_own_heading(table_12):
    shown = piece(table_12, [0, len(table_12.groups) - 1], None)
    heads = [str(column.header).split() for column in shown.columns]
    assert heads == [
        ["model"],
        ["r"],
        ["re-trained", "paper"],
        ["ours"],
        ["images/s,", "H100", "paper"],
    ]
    assert [next(iter(column.cells)) for column in shown.columns] == ["vim_small", "0", "80.5", "1 to run", "1954"]


@pytest.mark.parametrize("columns", [70, 110])
def test_the_command_cuts_nothing_off(rmeeto_cli, tmp_path, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    text = rmeeto_cli("table", "12", "--store", tmp_path).stdout
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= columns
    for printed in ("739", "1470", "736", "398", "1007", "1954", "vim_small"):
        assert printed in text
