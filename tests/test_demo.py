"""The demo: it fits into its time, runs end to end, and the model it starts from is as good as it says."""

import json

import pytest

import rmeeto
from rmeeto.demo import run_demo
from rmeeto.demo.plan import announcement, bench_batch, fit
from rmeeto.demo.run import unused_folder
from rmeeto.errors import ConfigError
from rmeeto.evaluation import evaluate
from rmeeto.evaluation.results import load_results
from rmeeto.models.vim.zoo import ZOO
from rmeeto.recipe import load_recipe

TRAIN_IMAGES, VAL_IMAGES = 1297, 500


def planned(seconds, step_seconds=0.05):
    return fit(
        load_recipe("digits"),
        step_seconds=step_seconds,
        train_images=TRAIN_IMAGES,
        val_images=VAL_IMAGES,
        seconds=seconds,
    )


def test_the_packaged_model_reads_digits():
    model = rmeeto.create_model("vim_digits", pretrained=True)
    found = evaluate(model, "digits", workers=0)
    assert found.images == VAL_IMAGES
    assert found.top1_percent >= 97
    assert found.top1_percent == pytest.approx(ZOO["vim_digits"].top1_percent, abs=0.21), "one digit either way"


def test_the_packaged_file_is_small_and_names_its_recipe():
    from safetensors import safe_open

    path = ZOO["vim_digits"].packaged_path
    assert path.stat().st_size < 2_000_000
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert metadata["command"] == "rmeeto retrain --recipe digits_scratch"
    shipped = load_recipe("digits_scratch")
    assert not rmeeto.recipe.parse_recipe(metadata["recipe"]).changed(output=shipped.output).differences(shipped)


def test_the_demo_reduces_by_at_least_thirty_percent():
    recipe = load_recipe("digits")
    model = rmeeto.create_model(recipe.model, reduction=recipe.reduction)
    assert model.schedule.ratio >= 0.30


@pytest.mark.parametrize("seconds", [600.0, 30.0, 8.0, 4.0])
def test_a_plan_keeps_within_its_time(seconds):
    assert planned(seconds).seconds <= seconds


def test_with_time_enough_the_recipe_is_left_alone():
    plan = planned(600)
    assert plan.recipe == load_recipe("digits")
    assert not plan.shortened


def test_less_time_means_fewer_epochs_and_then_fewer_images():
    plans = [planned(seconds) for seconds in (600, 15, 8, 4, 2)]
    amounts = [plan.recipe.epochs * plan.recipe.subset for plan in plans]
    assert amounts == sorted(amounts, reverse=True)
    assert len(set(amounts)) == len(amounts)
    assert plans[1].recipe.epochs > 1
    assert plans[1].recipe.subset == 1
    assert plans[-1].recipe.epochs == 1
    assert plans[-1].recipe.subset < 1
    assert all(plan.shortened for plan in plans[1:])


@pytest.mark.parametrize("seconds", [-5.0, 0.0, 0.01])
def test_at_least_one_step_whatever_the_time(seconds):
    recipe = planned(seconds, step_seconds=2.0).recipe
    assert recipe.images_per_step <= recipe.subset * TRAIN_IMAGES < 2 * recipe.images_per_step
    assert recipe.warmup_steps == 0


def test_a_short_run_does_not_spend_itself_on_warming_up():
    plan = planned(4.0)
    steps = int(plan.recipe.subset * TRAIN_IMAGES) // plan.recipe.images_per_step
    assert 0 < plan.recipe.warmup_steps <= steps / 4


def test_what_is_left_out_is_said():
    wanted = load_recipe("digits")
    assert "for all of its 10 epochs" in announcement(planned(600), wanted, 0.05, 600)
    fewer = announcement(planned(15), wanted, 0.05, 15)
    assert f"{planned(15).recipe.epochs} epochs; 10 epochs would not fit into 15 s" in fewer
    assert "one epoch on" in announcement(planned(2), wanted, 0.05, 2)


def test_the_benchmark_takes_a_batch_that_this_machine_can_time():
    assert bench_batch(image_seconds=0.001, seconds=10) == 512
    assert bench_batch(image_seconds=0.03, seconds=10) == 32
    assert bench_batch(image_seconds=10.0, seconds=10) == 8


def test_an_earlier_run_is_not_overwritten(tmp_path):
    assert unused_folder(tmp_path).name == "run"
    (tmp_path / "run").mkdir()
    assert unused_folder(tmp_path).name == "run-2"


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan")])
def test_no_time_is_refused(tmp_path, seconds):
    with pytest.raises(ConfigError, match="that is no time"):
        run_demo(tmp_path / "out", budget_seconds=seconds)
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("default::rmeeto.ops.select.FallbackWarning")
def test_end_to_end(tmp_path):
    found = run_demo(tmp_path, budget_seconds=10)

    assert found.shortened
    rows = found.results.rows
    assert [row.name for row in rows] == ["unreduced", "reduced", "reduced + re-trained"]
    assert rows[1].reduction_ratio >= 0.30
    assert rows[0].top1_percent >= 97
    assert rows[0].top1_percent > rows[1].top1_percent
    assert [m.reduction for m in found.speed.measurements] == ["none", "merge:r=13"]

    html = found.report.read_text(encoding="utf-8")
    assert f"{rows[0].top1_percent:.1f} % unreduced" in html
    assert html.count("data:image/png;base64,") == 10 * 4, "ten digits: the image, and blocks 2, 4 and 6"

    again = rmeeto.create_model(str(found.model))
    assert str(again.reduction) == "merge:r=13"
    assert evaluate(again, "digits", workers=0).top1_percent == pytest.approx(rows[2].top1_percent)
    assert load_results(found.model).epochs == found.results.epochs
    assert rows[2].speedup == found.speed.measurements[1].speedup.median
    json.dumps(found.to_dict())
