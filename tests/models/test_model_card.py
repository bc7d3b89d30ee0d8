"""What a model says of itself: its classes, its reduction, its cost, and what its reduction's settings mean."""

import json

import pytest

import rmeeto
from rmeeto.errors import CheckpointError
from rmeeto.evaluation.prediction import predict
from small_models import model_of
from toys import picture

NAMES = ("ash", "birch", "cedar", "date", "elm", "fig", "gum")


def test_class_names_are_saved_and_loaded_with_the_model(tmp_path):
    model = model_of()
    assert model.class_names is None
    model.class_names = list(NAMES)
    folder = rmeeto.save_model(model, tmp_path / "model")
    assert json.loads((folder / "config.json").read_text())["class_names"] == list(NAMES)
    assert rmeeto.create_model(str(folder)).class_names == NAMES


def test_names_are_those_of_the_classes_that_the_model_has(tmp_path):
    model = model_of()
    model.class_names = NAMES
    model.reset_classifier(3)
    assert model.class_names is None
    model.class_names = ("a", "b", "c")
    assert model.class_names == ("a", "b", "c")
    folder = rmeeto.save_model(model_of(), tmp_path / "model")
    assert rmeeto.create_model(str(folder)).class_names is None


def test_a_description_whose_names_are_no_names_is_refused(tmp_path):
    folder = rmeeto.save_model(model_of(), tmp_path / "model")
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**content, "class_names": 7}))
    with pytest.raises(CheckpointError, match="class_names"):
        rmeeto.create_model(str(folder))


def test_predictions_are_named_by_the_model(tmp_path):
    model = model_of(num_classes=2)
    model.class_names = ("cat", "dog")
    picture((9, 9, 9), 0).save(tmp_path / "a.png")
    (prediction,) = predict(model, [tmp_path / "a.png"])
    assert {guess.name for guess in prediction.guesses} == {"cat", "dog"}


def test_a_models_repr_begins_with_its_reduction():
    model = model_of(reduction="merge:r=3")
    assert f"reduction=merge:r=3, tokens={model.schedule.start} … {model.schedule.tokens[-1]}" in repr(model)
    assert "reduction=none" in repr(model_of())


def test_the_cost_is_short_to_print_and_a_table_in_a_notebook():
    cost = rmeeto.flops(model_of())
    assert repr(cost) == f"<Cost: {cost}>"
    assert "<table>" in cost._repr_html_()


@pytest.mark.parametrize("word", ["r, ratio, gflops, fewer", "features", "order", "window", "blocks", "op:", "stretch"])
def test_the_help_of_merging_names_every_setting(word):
    assert word in rmeeto.TokenMerge.__doc__
