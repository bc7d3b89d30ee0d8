import shlex
from dataclasses import replace

import pytest

from rmeeto.errors import UnknownName
from rmeeto.experiments.cell import Cell, decisive
from rmeeto.experiments.commands import command
from rmeeto.experiments.definition import load_table, parse_table
from rmeeto.experiments.plan import operations, places, published_ratio
from rmeeto.experiments.scale import list_scales, load_scale
from rmeeto.recipe import Recipe

FULL, SMALL = load_scale("full"), load_scale("small")
UNKNOWN = {"images": None, "clips": None}


def test_scales_are_found_by_name():
    assert {"full", "small"} <= set(list_scales())
    with pytest.raises(UnknownName, match="small"):
        load_scale("smal")


def test_full_scale_reduces_by_r_and_small_scale_by_the_ratio_that_r_saves():
    full = next(places(load_table("5a"), FULL, UNKNOWN))
    small = next(places(load_table("5a"), SMALL, UNKNOWN))
    assert full.reduction == "merge:r=5,shuffle=0.1"
    assert small.reduction == "merge:ratio=0.1396,shuffle=0.1"
    assert round(published_ratio("vim_small", 11), 2) == 0.31


def test_each_repetition_has_its_own_training_of_the_same_base_model():
    found = next(place for place in places(load_table("5a"), SMALL, UNKNOWN, 4) if place.column.key == "trained")
    assert [cell.base.seed for cell in found.cells] == [0, 0, 0, 0]
    assert [cell.training.seed for cell in found.cells] == [0, 1, 2, 3]
    assert len({cell.key for cell in found.cells}) == 4


@pytest.mark.parametrize("scale", [FULL, SMALL])
def test_weights_that_are_not_re_trained_are_scored_once(scale):
    assert len(next(places(load_table("5a"), scale, UNKNOWN, 4)).cells) == 1


def test_a_key_changes_with_what_decides_the_result_and_with_nothing_else():
    trained = next(place for place in places(load_table("5a"), SMALL, UNKNOWN) if place.column.key == "trained")
    cell = trained.cells[0]
    same = [
        replace(cell, training=cell.training.changed(output="elsewhere", workers=7, data="moved", log_every_steps=3)),
        replace(cell, model="another name for it"),
    ]
    other = [
        replace(cell, training=cell.training.changed(lr=1e-3)),
        replace(cell, base=cell.base.changed(epochs=2)),
        replace(cell, reduction="merge:r=1"),
        replace(cell, data="0123456789ab"),
        replace(cell, seed=1),
        replace(cell, built="vim_small"),
        replace(cell, work="free"),
    ]
    assert {one.key for one in same} == {cell.key}
    assert len({one.key for one in [cell, *other]}) == len(other) + 1


def test_a_stored_cell_of_today_is_found_by_every_later_version():
    # If this fails because recipes have a new field, `decisive` must leave it out while it does what was done before.
    # Otherwise every store in the world loses its cells.
    base = Recipe(model_options={"dim": 48}, epochs=8, seed=1)
    cell = Cell("trained", "any", base, "vim_tiny", "merge:r=5", Recipe(lr=1e-3, seed=1), 1, "abc")
    assert cell.key == "cdfa2871a5ed7f0d"


def test_counted_columns_are_those_of_the_papers_models_at_every_scale():
    for scale in (FULL, SMALL):
        for place in places(load_table("10"), scale, UNKNOWN):
            assert round(place.counted, 2) == place.row.printed["ratio"]
            assert place.cells == ()


def test_the_printed_command_has_the_cells_recipe(monkeypatch, capsys):
    import rmeeto.training
    from rmeeto.cli.app import app

    given = []

    def stop(recipe, **_):
        given.append(recipe)
        raise KeyboardInterrupt

    monkeypatch.setattr(rmeeto.training, "retrain", stop)
    trained = [place for place in places(load_table("5a"), FULL, UNKNOWN) if place.column.key == "trained"]
    cell = trained[0].cells[1]
    with pytest.raises(SystemExit):
        app(shlex.split(command(cell, "IMAGES"))[1:])
    (recipe,) = given
    wanted = cell.training.changed(reduction=cell.reduction, weights="published")
    assert decisive(recipe) == decisive(wanted)
    assert (recipe.model, recipe.data) == ("vim_tiny", "IMAGES")


def test_operations_are_those_of_the_model_that_runs():
    place = next(places(load_table("5a"), SMALL, UNKNOWN))
    paper, exact = operations(place, SMALL)
    assert 0.01 < paper < exact < 0.1


SWEEP = """
title = "T"
place = "Table 0"
section = "3"
small = "the same"

[[column]]
key = "trained"
title = "re-trained"
training = "minutes"

[[row]]
model = "vim_tiny"
reduction = "merge:{amount},features={feature}"
labels = { feature = ["X", "B"] }
times = { epochs = 3, subset = 0.5 }
"""


def test_options_at_their_defaults_are_left_out_of_a_sweep():
    plain, other = places(parse_table("toy", SWEEP), FULL, UNKNOWN)
    assert (plain.reduction, other.reduction) == ("merge:r=5", "merge:r=5,features=B")


def test_a_training_is_stretched_by_factors():
    plain, _ = places(parse_table("toy", SWEEP), FULL, UNKNOWN)
    assert (plain.cells[0].training.epochs, plain.cells[0].training.subset) == (9, 0.5)


@pytest.mark.parametrize(
    ("change", "says"), [(("{feature}", "{featur}"), "did you mean feature"), (("epochs = 3", "epoch = 3"), "epochs")]
)
def test_a_misspelt_word_of_a_row_suggests_the_nearest(change, says):
    with pytest.raises(UnknownName, match=says):
        list(places(parse_table("toy", SWEEP.replace(*change)), FULL, UNKNOWN))


def test_the_figures_of_another_device_are_not_run():
    for place in places(load_table("12"), SMALL, UNKNOWN):
        assert (place.cells == ()) == (place.column.device is not None)
        assert place.column.device is None or place.missing == "the figures are those of other devices"


def test_a_row_on_a_second_data_set_takes_its_own_network_and_ratio():
    first, second = (
        next(place for place in places(load_table(name), SMALL, {key: key for key in SMALL.data}) if where(place))
        for name, where in (
            ("1b", lambda place: place.row.model == "vim_small" and place.row.coordinates["r"] == 11),
            ("confirmed", lambda place: place.row.coordinates["r"] == 11),
        )
    )
    assert first.reduction == second.reduction
    assert (first.cells[0].data, second.cells[0].data) == ("images", "photos")
    assert first.cells[0].base != second.cells[0].base


def test_a_scale_without_the_second_data_set_says_so():
    for place in places(load_table("confirmed"), FULL, UNKNOWN):
        assert place.missing == "nothing stands for vim_small on photos at full scale"
