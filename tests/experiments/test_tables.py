"""Every shipped table and scale: all names exist, the budget holds, and every reduction runs."""

import re
import subprocess
import sys
from collections import Counter
from functools import cache

import pytest
import torch

from rmeeto import create_model
from rmeeto.config import ModelConfig
from rmeeto.experiments.claims import groups
from rmeeto.experiments.definition import list_tables, load_table
from rmeeto.experiments.plan import NONE, places
from rmeeto.experiments.run import open_bases, open_cells, seconds_left
from rmeeto.experiments.scale import FREE, list_scales, load_scale
from rmeeto.experiments.store import Store
from rmeeto.experiments.work import Workshop
from rmeeto.models.description import describe
from rmeeto.reduction import METHODS, parse_reduction
from rmeeto.runtime.progress import SILENT

TABLES = list_tables()
PAPER = (
    *("1a", "1b", "2", "3", "4", "5a", "5b", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16", "17"),
    *("18", "19", "20", "21", "22a", "22b", "fig1a", "fig1b", "fig2i", "fig2ii", "fig2iii", "fig4", "fig5"),
)
BEYOND = ("best", "class-token", "confirmed", "methods", "minutes", "order", "speed", "tennis")
ELSEWHERE = ("the figures are those of other devices", "nothing stands for")
TINY = {"vim": {"dim": 8}, "vit": {"embed_dim": 12, "num_heads": 3}}
AMOUNT = re.compile(r"\b(ratio|r)=[\d.*+]+")
HOURS = 8
# Stand-ins of the small scale that differ in nothing but their width, or have as many tokens.
SHAPES = [
    ("vim_tiny", "vim_small", "vim_small on photos"),
    ("deit_small", "deit_tiny"),
    ("videomamba_tiny",),
    ("videomamba_tiny_video", "videomamba_tiny_video on tennis"),
]


@cache
def plan(name, scale="small", seeds=None):
    chosen = load_scale(scale)
    data = {key: one.fingerprint for key, one in chosen.data.items()}
    return list(places(load_table(name), chosen, data, seeds))


def keys(name, **labels):
    return [cell.key for place in plan(name) if labels.items() <= {**place.coordinates}.items() for cell in place.cells]


def test_every_table_and_figure_of_the_paper_is_there():
    assert [*PAPER, *BEYOND] == list(TABLES)
    assert [name for name in TABLES if load_table(name).beyond] == list(BEYOND)


def test_no_two_tables_have_one_place_in_the_paper():
    assert max(Counter(load_table(name).place for name in TABLES).values()) == 1


@pytest.mark.parametrize("name", TABLES)
def test_every_name_in_a_table_exists(name):
    table, full = load_table(name), load_scale("full")
    assert {row.model for row in table.rows} <= full.models.keys()
    for scale in map(load_scale, list_scales()):
        used = {column.training for column in table.columns} | {
            str(row.changes.get("training", FREE)) for row in table.rows
        }
        assert used <= {FREE, *scale.trainings}
        for place in plan(name, scale.name):
            assert place.missing is None or place.missing.startswith(ELSEWHERE)
            parse_reduction(place.reduction)


def test_every_model_of_a_scale_exists_and_has_data():
    for scale in map(load_scale, list_scales()):
        for stand_in in scale.models.values():
            assert stand_in.data in scale.data
            assert describe(stand_in.model).config.tokens > 1
            assert stand_in.like is None or stand_in.like in scale.models
        assert scale.seeds.keys() <= set(TABLES)


def test_all_of_the_small_scale_fits_its_hours(tmp_path):
    """On two cores, by the expected seconds of its models; base models included."""
    scale, store = load_scale("small"), Store(tmp_path)
    todo = open_cells([place for name in TABLES for place in plan(name)], scale, store)
    bases = open_bases(todo, Workshop(tmp_path, {}, 0, SILENT))
    assert min(one.seconds for one in todo) > 0
    assert seconds_left(todo, bases, scale) / 3600 < HOURS


def test_cells_that_several_tables_have_are_one():
    six = {"model": "vim_small", "column": "trained"}
    own = keys("1b", r=11, column="trained")
    for name, labels in (
        ("4", {"order": "kept"}),
        ("6", {"feature": "X"}),
        ("7", {"distance": "cosine"}),
        ("8", {"data": "100 %"}),
        ("12", {"r": 11, "column": "acc"}),
        ("15", {"n": 1}),
        ("16", {"interval": 4}),
        ("17", {"op": "sum"}),
        ("20", {"grouping": "odd-even"}),
        ("22a", {"rank": "top"}),
        ("22b", {"pairing": "best"}),
        ("minutes", {"data": "100 %", "teacher": "none", "length": 1}),
    ):
        found = keys(name, **{**six, **labels})
        assert found, name
        assert found == own[: len(found)], name


def test_clips_are_drawn_by_the_model_whose_accuracy_another_table_has():
    own = keys("fig5", model="videomamba_tiny_video", column="acc")
    assert own
    assert own == keys("13", model="videomamba_tiny_video", method="R-MeeTo", column="acc")[: len(own)]


def test_at_full_scale_three_epochs_are_the_usual_training():
    own = next(p for p in plan("1b", "full") if p.coordinates["r"] == 11 and p.column.key == "trained")
    for name, labels in (("9", {"epochs": 3}), ("16", {"model": "vim_small", "interval": 2}), ("8", {"data": "100 %"})):
        (same,) = (p for p in plan(name, "full") if {**labels, "column": "trained"}.items() <= p.coordinates.items())
        assert [one.key for one in same.cells] == [one.key for one in own.cells[: len(same.cells)]]


def test_less_data_is_seen_more_often():
    (place,) = (p for p in plan("8", "full") if p.coordinates["data"] == "5 %")
    assert (place.cells[0].training.subset, place.cells[0].training.epochs) == (0.05, 60)
    (place,) = (p for p in plan("8") if p.coordinates["data"] == "5 %")
    usual = load_scale("small").trainings["minutes"]
    assert place.cells[0].training.subset == pytest.approx(usual["subset"] * 0.05)
    assert place.cells[0].training.epochs == usual["epochs"] * 20


def test_a_scale_repeats_less_if_it_has_no_time_and_as_often_as_asked():
    assert load_table("7").seeds == 3
    assert {len(place.cells) for place in plan("7")} == {1}
    assert {(place.column.key, len(place.cells)) for place in plan("7", seeds=3)} == {("free", 1), ("trained", 3)}
    assert {len(place.cells) for place in plan("4") if place.cells} == {6}


@pytest.mark.parametrize("scale", list_scales())
@pytest.mark.parametrize("name", TABLES)
def test_the_sides_of_a_claim_are_repeated_equally_often(name, scale):
    """Weights that are not trained here are scored once, against every repetition of the other side."""
    for claim in load_table(name).claims:
        for group in groups(claim, plan(name, scale)):
            counts = {len(place.cells) for place in group if place.cells}
            assert len(counts - {1}) <= 1, claim.text


def test_methods_that_take_no_ratio_get_the_count_that_comes_closest():
    (full, small) = (
        {p.coordinates["order"]: p.reduction for p in plan("order", scale) if p.row.model == "vim_tiny"}
        for scale in ("full", "small")
    )
    assert (full["kept"], full["released, kept"]) == ("merge:r=5", "released:r=5")
    assert (small["kept"], small["released, kept"]) == ("merge:r=4", "released:r=4")


def test_every_method_is_compared():
    assert {place.reduction.partition(":")[0] for place in plan("methods")} == METHODS.keys() - {"released-vit"}


def tiny(stand_in):
    """The stand-in with as many blocks and tokens, but hardly any width."""
    torch.manual_seed(0)
    family = "vim" if isinstance(describe(stand_in.model).config, ModelConfig) else "vit"
    return create_model(stand_in.model, **{**stand_in.options, **TINY[family], "num_classes": 3}).eval()


@pytest.mark.parametrize("names", SHAPES, ids=lambda names: names[0])
def test_every_reduction_of_every_table_runs(names):
    found = [p for table in TABLES for p in plan(table) if p.row.stand_in in names and p.cells]
    # of reductions that differ in nothing but how much, the last one
    lines = {AMOUNT.sub("", place.reduction): place.reduction for place in found}
    assert NONE in lines
    model = tiny(load_scale("small").models[names[0]])
    images = torch.randn(1, *model.config.input_size)
    with torch.inference_mode():
        for line in lines.values():
            model.reduction = parse_reduction(line)
            assert model(images).isfinite().all(), line


def test_every_stand_in_of_the_small_scale_has_a_shape():
    assert sorted(name for names in SHAPES for name in names) == sorted(load_scale("small").models)


def test_a_scale_is_read_without_torch():
    code = (
        "import sys; from rmeeto.experiments.scale import load_scale; load_scale('full'); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
