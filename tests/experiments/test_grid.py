"""Tables as text: which parts a column has, and a label laid across the page."""

import pytest

from experiment_results import result_of
from rmeeto.experiments.across import laid_out
from rmeeto.experiments.definition import list_tables, load_table
from rmeeto.experiments.grid import grid
from rmeeto.experiments.plan import places
from rmeeto.experiments.scale import load_scale
from rmeeto.experiments.store import Store
from rmeeto.experiments.summary import summary

DATA = {"images": "abc", "clips": None}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """With the cells of three tables."""
    found = Store(tmp_path_factory.mktemp("store"))
    for name in ("2", "11", "fig2ii"):
        for place in places(load_table(name), load_scale("small"), DATA):
            for cell in place.cells:
                found.add(cell, result_of(cell, (True, cell.seed % 2 == 0, False, int(cell.key, 16) % 3 > 0)))
    return found


def whole(name, store, scale="small"):
    return summary(load_table(name), load_scale(scale), DATA, store)


def test_only_counted_figures_differ_from_the_papers_where_networks_are_small(store):
    accuracy, operations = grid(whole("2", store)).groups
    assert (accuracy.parts, operations.parts) == (("paper", "ours"), ("paper", "ours", "difference"))
    accuracy, operations = grid(whole("2", store, "full")).groups
    assert accuracy.parts == operations.parts == ("paper", "ours", "difference")


def test_what_calibrates_a_prediction_has_no_difference_from_it(store):
    found = grid(whole("3", store))
    empty = {line.labels[1] for line in found.lines if not line.figures[2]}
    assert empty == {"1"}
    assert any("predicted" in note for note in found.notes)
    assert not any("predicted" in note for note in grid(whole("2", store)).notes)


@pytest.mark.parametrize("name", [name for name in list_tables() if load_table(name).across])
def test_every_figure_is_there_when_a_label_lies_across(name, store):
    one = whole(name, store)
    plain, across = grid(one), laid_out(one)
    (group,) = across.groups
    assert group.title == one.table.across
    assert all(len(line.figures) == len(group.parts) for line in across.lines)
    assert all(len(line.labels) == len(across.labels) for line in across.lines)
    before, after = (sorted(text for line in found.lines for text in line.figures if text) for found in (plain, across))
    assert before == after


def test_a_figure_stands_under_its_own_label(store):
    across = laid_out(whole("11", store))
    assert across.labels == ("model", "whose")
    assert across.groups[0].parts == tuple(f"{r}" for r in range(12))
    assert [line.labels for line in across.lines[:2]] == [("vim_tiny", "paper"), ("vim_tiny", "ours")]
    assert [line.part for line in across.lines[:2]] == ["paper", "ours"]
    assert across.lines[0].figures[2] == "52.3"


def test_columns_are_named_if_there_are_several(store):
    across = laid_out(whole("fig2ii", store))
    assert across.labels == ("model", "column")
    assert across.groups[0].parts == ("odd-even", "kept")
    assert across.lines[0].labels == ("deit_tiny", "training-free")


def test_a_table_without_such_a_label_stays_as_it_is(store):
    assert laid_out(whole("2", store)) == grid(whole("2", store))
