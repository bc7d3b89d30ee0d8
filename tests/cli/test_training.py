"""eval and retrain: what reaches the recipe, what comes out, and the options that people may rely on."""

from dataclasses import asdict

import pytest
from typer.main import get_command

from rmeeto.cli import app
from rmeeto.cli.retrain import recipe_from
from rmeeto.errors import ConfigError
from rmeeto.evaluation import scores
from rmeeto.evaluation.results import Row
from rmeeto.models.checkpoint import read_config
from rmeeto.recipe import PUBLISHED, load_recipe
from toys import SIZES

RETRAIN_OPTIONS = """
--accumulate --anneal --grad-accum-steps --auto-augment --aa --batch -b --batch-size --clip-grad --color-jitter --crops
--cutmix --data --data-dir --device --distill --drop-path-rate --drop-path --ema-decay --model-ema-decay --epochs --flip
--frame-stride --frames --help --img-size --impl --json --label-smoothing --smoothing --log-every-steps --log-interval
--lr --min-lr --mixup --num-classes --nb-classes --output -o --precision --random-erasing --reprob --recipe --reduce
--registers --resume --sampling --save-every-seconds --seed --segments --subset --warmup-steps --weight-decay --weights
--workers -j
"""


def test_retrains_options_are_a_promise():
    command = get_command(app).commands["retrain"]
    context = command.make_context("retrain", [], resilient_parsing=True)
    found = {name for option in command.get_params(context) for name in option.opts if name.startswith("-")}
    assert found == set(RETRAIN_OPTIONS.split())


def test_options_override_the_recipe_and_nothing_else_changes():
    recipe = recipe_from(
        "vim_small", {"lr": 1e-4, "data": "d", "reduce": "prune:r=3", "batch": 64, "clip_grad": "none"}
    )
    expected = load_recipe("vim_small", lr=1e-4, data="d", reduction="prune:r=3", batch_size=64, clip_grad=None)
    assert recipe == expected


def test_a_model_alone_means_its_own_weights(model_folder):
    assert recipe_from(None, {"model": "vim_tiny", "data": "d"}).weights == PUBLISHED
    assert recipe_from(None, {"model": "vim_tiny", "data": "d", "weights": "random"}).weights is None
    assert recipe_from(None, {"model": "vim_tiny", "data": "d", "weights": "w.pth"}).weights == "w.pth"
    assert recipe_from(None, {"model": model_folder, "data": "d"}).weights is None
    with pytest.raises(ConfigError, match="random"):
        recipe_from(None, {"model": model_folder, "data": "d", "weights": "random"})
    sized = recipe_from(None, {"model": "vim_tiny", "data": "d", "img_size": 64})
    assert dict(sized.model_options) == {"img_size": 64}
    registered = recipe_from("vim_small", {"data": "d", "registers": 4})
    assert dict(registered.model_options) == {"registers": 4}


@pytest.mark.parametrize("missing", ["model", "data"])
def test_without_a_recipe_model_and_data_must_be_named(missing):
    given = {"model": "vim_tiny", "data": "d"}
    with pytest.raises(ConfigError, match=missing):
        recipe_from(None, {name: value for name, value in given.items() if name != missing})


def test_retrain_ends_with_the_table_and_a_model(rmeeto_cli, rmeeto_json, model_folder, pictures, tmp_path):
    output = tmp_path / "run"
    options = ("--data", pictures, "--reduce", "merge:r=4", "--epochs", 1, "-b", 4, "-j", 0, "--output", output)
    text = rmeeto_cli("retrain", model_folder, *options).stdout
    for name in ("unreduced", "reduced", "reduced + re-trained", "top-1", "GFLOPs", "speed-up"):
        assert name in text
    assert read_config(output)["reduction"] == "merge:r=4"
    assert rmeeto_json("retrain", model_folder, *options, "--resume")["steps"] == 3
    assert "Traceback" not in rmeeto_cli("retrain", model_folder, *options, code=2).stderr  # the folder is in use


def test_retrain_refuses_bad_values_before_writing(rmeeto_cli, pictures, tmp_path):
    output = tmp_path / "run"
    for options in (("--epochs", 0), ("--clip-grad", -1), ("--data", tmp_path / "none"), ("--reduce", "merge:r=900")):
        arguments = ("retrain", "vim_tiny", "--weights", "random", "--data", pictures, "-o", output, *options)
        rmeeto_cli(*arguments, code=2)
    assert not (output / "model.safetensors").exists()


def test_eval_compares_reductions_with_the_unreduced_model(rmeeto_json, model_folder, pictures):
    options = ("--data", pictures, "-j", 0, "--reduce", "none", "--reduce", "merge:r=2", "--reduce", "prune:r=5")
    rows = rmeeto_json("eval", model_folder, *options)["rows"]
    assert [row["name"] for row in rows] == ["unreduced", "merge:r=2", "prune:r=5"]
    assert [row["tokens"] for row in rows] == [17, 15, 12]
    assert all(row["images"] == 6 for row in rows)
    assert rows[0]["speedup"] == 1
    assert all(row["images_per_second"] > 0 and row["speedup"] > 0 for row in rows)


@pytest.mark.parametrize(("images_per_second", "rough"), [(3000, True), (1000, False)])
def test_eval_says_when_speeds_are_rough(
    rmeeto_cli, rmeeto_json, model_folder, pictures, monkeypatch, images_per_second, rough
):
    def speeds(scores, *rest):
        return tuple(Row(**asdict(score), images_per_second=images_per_second, speedup=1.0) for score in scores)

    monkeypatch.setattr(scores, "add_speeds", speeds)
    options = ("eval", model_folder, "--data", pictures, "-j", 0)
    assert ("the speeds are rough" in rmeeto_cli(*options).stderr) is rough
    assert rmeeto_json(*options)["rough_speeds"] is rough


def test_retraining_needs_a_folder_of_its_own_for_training(rmeeto_cli, model_folder, pictures, tmp_path):
    flat = pictures / "train"
    refused = rmeeto_cli("retrain", model_folder, "--data", flat, "-o", tmp_path / "run", code=2).stderr
    assert "there is no train/ folder in it" in refused
    assert "serves for evaluation only" in " ".join(refused.replace("│", " ").split())


def test_eval_counts_what_a_threshold_removes(rmeeto_json, model_folder, pictures):
    line = "similar-merge:r=5,threshold=1.5"  # nothing is that similar
    whole, kept = rmeeto_json("eval", model_folder, "--data", pictures, "-j", 0, "--reduce", line)["rows"]
    assert (kept["tokens"], kept["reduction_ratio"], kept["top1_percent"]) == (17, 0, whole["top1_percent"])
    assert kept["gflops_exact"] > whole["gflops_exact"]
    assert kept["images_per_second"] > 0


def test_of_several_processes_the_first_alone_speaks(rmeeto_cli, model_folder, pictures, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    for form in ((), ("--json",)):
        done = rmeeto_cli("eval", model_folder, "--data", pictures, "-j", 0, *form)
        assert (done.stdout, done.stderr) == ("", "")
    assert "no such folder" in rmeeto_cli("eval", model_folder, "--data", "nowhere", code=2).stderr


def test_eval_takes_the_saved_reduction(rmeeto_json, model_folder, pictures):
    rows = rmeeto_json("eval", model_folder, "--data", pictures, "-j", 0)["rows"]
    assert [row["name"] for row in rows] == ["unreduced", "merge:r=3"]


def test_eval_refuses_what_it_cannot_score(rmeeto_cli, model_folder, pictures, tmp_path):
    assert "--data" in rmeeto_cli("eval", model_folder, code=2).stderr
    assert "no such folder" in rmeeto_cli("eval", model_folder, "--data", tmp_path / "none", code=2).stderr


def test_a_shipped_recipe_can_be_named(rmeeto_cli):
    assert "vim_small" in rmeeto_cli("retrain", "--recipe", "vim_smal", code=2).stderr


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    pytest.importorskip("av", reason='reading video needs PyAV: pip install "rmeeto[video]"')
    from toy_clips import make_clip_folder

    return make_clip_folder(tmp_path_factory.mktemp("clips"), train=4, val=2)


def test_clips_go_from_training_to_evaluation_to_pictures(rmeeto_cli, rmeeto_json, clips, tmp_path):
    output = tmp_path / "run"
    recipe = tmp_path / "tiny.toml"
    sizes = ", ".join(f"{name} = {value}" for name, value in SIZES.items())
    recipe.write_text(f'model = "videomamba_tiny"\nmodel_options = {{ {sizes} }}\n')
    options = ("--data", clips, "--frames", 4, "--weights", "random", "--reduce", "merge:r=9,blocks=all", "--flip", 0)
    views = ("--sampling", "dense", "--frame-stride", 2, "--segments", 2, "--crops", 3)
    running = ("--epochs", 1, "-b", 4, "-j", 0, "--output", output)
    trained = rmeeto_json("retrain", "--recipe", recipe, *options, *views, *running)
    assert [row["name"] for row in trained["rows"]] == ["unreduced", "reduced", "reduced + re-trained"]
    assert read_config(output)["config"]["frames"] == 4
    found = rmeeto_json("eval", output, "--data", clips, "-j", 0, *views)
    assert found["views"] == {"sampling": "dense", "frame_stride": 2, "segments": 2, "crops": 3}
    last, again = trained["rows"][-1], found["rows"][-1]
    assert (again["top1_percent"], again["images"]) == (last["top1_percent"], 4)
    assert again["loss"] == pytest.approx(last["loss"], rel=1e-4)
    shown = " ".join(rmeeto_cli("eval", output, "--data", clips, "-j", 0, *views).stdout.split())
    assert "4 clips of" in shown
    assert "2 × 3 views, dense sampling" in shown
    rmeeto_cli("show", output, clips / "val/left", "--output", tmp_path / "strip.png")


def test_views_of_images_are_refused(rmeeto_cli, model_folder, pictures):
    assert (
        "only clips have several views"
        in rmeeto_cli("eval", model_folder, "--data", pictures, "--crops", 3, code=2).stderr
    )
