"""What stands for the paper's models, and how it was trained, as the page tells it."""

import pytest

from experiment_results import result_of
from rmeeto.experiments.definition import load_table
from rmeeto.experiments.plan import places
from rmeeto.experiments.scale import list_scales, load_scale
from rmeeto.experiments.shown_scale import all_recipes, stand_ins, trainings


def test_accuracies_of_base_networks_come_from_their_own_cells():
    scale, data = load_scale("small"), {"images": "abc", "clips": None}
    results = [
        result_of(cell, (True, place.row.model == "vim_tiny"))
        for place in places(load_table("2"), scale, data)
        for cell in place.cells
    ]
    found = {line[0]: line[1] for line in stand_ins(scale, results)}
    assert (found["vim_tiny"], found["vim_small"]) == ("100.0 %", "50.0 %")
    assert found["deit_tiny"] == found["vim_small on photos"] == "", "Table 2 does not have them"
    assert not any(line[1] for line in stand_ins(scale, []))


@pytest.mark.parametrize("scale", list_scales())
def test_every_training_of_every_model_is_told_once(scale):
    chosen = load_scale(scale)
    heads, lines, alike = trainings(chosen)
    assert all(len(line) == len(heads) for line in lines)
    assert len(set(lines)) == len(lines)
    names = {training for training, _, _ in all_recipes(chosen)}
    assert {line[0] for line in lines} == names
    assert ("from scratch" in names) == (chosen.base is not None)
    assert alike.startswith("All trainings: AdamW, ")


def test_models_that_are_trained_otherwise_have_a_line_of_their_own():
    heads, lines, alike = trainings(load_scale("small"))
    told = {line[:2]: dict(zip(heads, line, strict=True)) for line in lines}
    video, usual = told["from scratch", "videomamba_tiny_video"], told["from scratch", "all others"]
    recipe = load_scale("small").base_recipe("videomamba_tiny_video")
    assert (video["epochs"], video["learning rate"]) == (f"{recipe.epochs}", f"{recipe.lr:g}")
    assert video["epochs"] != usual["epochs"]
    assert "label smoothing 0.1" in alike
    assert "label smoothing" not in heads
