import errno
import json
import math
import random
import warnings
from dataclasses import asdict

import numpy as np
import pytest
import torch
from safetensors import safe_open

import goldens
import rmeeto.training.run as run_module
import rmeeto.training.run_state
from fresh import Fresh
from rmeeto import create_model
from rmeeto.data import Preparation, evaluation_transform, open_data
from rmeeto.errors import CheckpointError, ConfigError, DataError, RmeetoWarning, RunError
from rmeeto.evaluation import evaluate
from rmeeto.evaluation.results import load_results
from rmeeto.recipe import Recipe, parse_recipe
from rmeeto.training import retrain
from rmeeto.training.average import WeightAverage
from rmeeto.training.building import build_model
from rmeeto.training.learning_rate import LearningRate
from rmeeto.training.objective import Objective, divergence, make_teacher
from rmeeto.training.runlog import read_log
from rmeeto.training.step import make_optimizer
from toys import COLOURS, SIZES, Recorder, make_folder, toy_recipe, truncate

REDUCTION = "merge:r=3"


@pytest.fixture(scope="session")
def toys(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("toys") / "toys", train=16, val=8)


@pytest.fixture(scope="session")
def trained(toys, tmp_path_factory):
    """A model that knows the toys, trained from scratch, and the run's results."""
    output = tmp_path_factory.mktemp("trained") / "run"
    return output, retrain(toy_recipe(toys, output, epochs=4))


def weights_of(folder):
    return create_model(str(folder)).state_dict()


def assert_same_weights(a, b):
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


class TestFromScratch:
    def test_it_learns(self, trained):
        _, results = trained
        assert [row.name for row in results.rows] == ["before training", "trained"]
        assert results.rows[1].top1_percent >= 90
        assert results.rows[1].loss < 0.8 * results.rows[0].loss

    def test_the_head_has_the_datas_classes(self, trained):
        output, results = trained
        assert results.classes == create_model(str(output)).num_classes == 3

    def test_the_saved_model_scores_what_the_table_says(self, trained, toys):
        output, results = trained
        evaluation = evaluate(create_model(str(output)), toys, batch_size=8, workers=0)
        assert evaluation.top1_percent == results.rows[-1].top1_percent
        assert evaluation.loss == pytest.approx(results.rows[-1].loss)

    def test_the_best_epoch_is_kept_too(self, trained, toys):
        output, results = trained
        evaluation = evaluate(create_model(str(output / "best")), toys, batch_size=8, workers=0)
        assert evaluation.top1_percent == results.best_epoch.top1_percent == max(e.top1_percent for e in results.epochs)

    def test_the_recipe_is_inside_the_weights(self, trained, toys):
        output, results = trained
        with safe_open(output / "model.safetensors", "pt") as file:
            inside = parse_recipe(file.metadata()["recipe"])
        assert inside == parse_recipe(results.recipe) == parse_recipe((output / "recipe.toml").read_text())
        assert inside == toy_recipe(toys, output, epochs=4)

    def test_results_survive_json(self, trained):
        output, results = trained
        assert load_results(output) == load_results(output / "results.json") == results
        assert json.loads(results.to_json())["rows"][0] == asdict(results.rows[0])

    def test_only_what_is_needed_is_left(self, trained):
        output, _ = trained
        names = {path.name for path in output.iterdir()}
        assert names == {
            "best", "config.json", "log.jsonl", "model.safetensors", "recipe.toml", "results.json", "run.lock",
        }  # fmt: skip

    def test_everybody_may_read_the_results(self, trained):
        output, _ = trained
        beside = output / "beside"
        beside.touch()
        expected = beside.stat().st_mode
        beside.unlink()
        for name in ("model.safetensors", "config.json", "results.json", "recipe.toml"):
            assert (output / name).stat().st_mode == expected

    def test_the_log_follows_the_schedule(self, trained):
        output, results = trained
        log = read_log(output / "log.jsonl")
        steps = [record for record in log if record["event"] == "step"]
        assert [record["step"] for record in steps] == list(range(1, results.steps + 1))
        assert steps[0]["lr"] == 3e-3
        assert steps[-1]["lr"] == pytest.approx(1e-6)
        assert steps[-1]["epoch"] == 4
        assert steps[-1]["loss"] < steps[0]["loss"]
        assert all(record["images_per_second"] > 0 and 0 <= record["data_wait_share"] <= 1 for record in steps)
        evaluations = [(r["step"], r["epoch"]) for r in log if r["event"] == "evaluation"]
        assert evaluations == [(0, 0), (6, 1), (12, 2), (18, 3), (24, 4)]
        assert (log[0]["event"], log[-1]["event"]) == ("start", "end")


class TestRetraining:
    @pytest.fixture(scope="class")
    @classmethod
    def run(cls, trained, toys, tmp_path_factory):
        output = tmp_path_factory.mktemp("retrained") / "run"
        model, _ = trained
        recipe = toy_recipe(toys, output, model=str(model), model_options=(), reduction=REDUCTION, lr=1e-3)
        watcher = Recorder()
        return output, retrain(recipe, progress=watcher), watcher

    def test_the_table(self, run, trained):
        _, results, _ = run
        unreduced, reduced, retrained = results.rows
        assert [row.name for row in results.rows] == ["unreduced", "reduced", "reduced + re-trained"]
        assert unreduced.top1_percent == trained[1].rows[-1].top1_percent
        assert (unreduced.tokens, reduced.tokens, retrained.tokens) == (17, 14, 14)
        assert unreduced.speedup == 1
        assert reduced.gflops_exact == retrained.gflops_exact < unreduced.gflops_exact
        assert reduced.gflops_paper < unreduced.gflops_paper
        assert retrained.loss < reduced.loss
        assert retrained.speedup == reduced.speedup > 0
        assert retrained.images_per_second == reduced.images_per_second > 0
        assert {row.images for row in results.rows} == {24}

    def test_the_saved_model_reduces(self, run):
        output, _, _ = run
        assert str(create_model(str(output)).reduction) == REDUCTION

    def test_everything_is_announced(self, run):
        _, _, watcher = run
        descriptions = [description for description, _ in watcher.tasks]
        assert descriptions == [
            "evaluating unreduced",
            "evaluating reduced",
            "re-training, epoch 1/2",
            "evaluating reduced + re-trained, epoch 1",
            "re-training, epoch 2/2",
            "evaluating reduced + re-trained, epoch 2",
        ]
        assert watcher.advanced == [total for _, total in watcher.tasks]
        assert watcher.messages[0] == (
            "8 images per step = 1 process × 1 forward pass × 8; 48 images, 6 steps per epoch, 12 in all"
        )

    def test_none_undoes_the_reduction_of_a_saved_model(self, run, toys, tmp_path):
        output, _, _ = run
        recipe = toy_recipe(toys, tmp_path / "run", model=str(output), model_options=())
        assert build_model(recipe, 3).reduction is None


def test_the_seed_decides_and_the_caller_keeps_their_own(toys, tmp_path):
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    settings = {"epochs": 1, "mixup": 0.8, "cutmix": 1.0, "drop_path_rate": 0.3, "random_erasing": 0.5}
    first = retrain(toy_recipe(toys, tmp_path / "a", **settings))
    assert random.getstate() == states[0]
    assert np.array_equal(np.random.get_state()[1], states[1])
    assert torch.equal(torch.get_rng_state(), states[2])
    random.seed(2), np.random.seed(2), torch.manual_seed(2)
    second = retrain(toy_recipe(toys, tmp_path / "b", **settings))
    assert first.epochs == second.epochs
    assert_same_weights(weights_of(tmp_path / "a"), weights_of(tmp_path / "b"))
    retrain(toy_recipe(toys, tmp_path / "c", seed=1, **settings))
    assert not torch.equal(weights_of(tmp_path / "a")["head.weight"], weights_of(tmp_path / "c")["head.weight"])


def test_accumulation_equals_the_whole_batch(toys, tmp_path):
    retrain(toy_recipe(toys, tmp_path / "whole", epochs=1, batch_size=8))
    retrain(toy_recipe(toys, tmp_path / "parts", epochs=1, batch_size=2, accumulate=4))
    whole, parts = weights_of(tmp_path / "whole"), weights_of(tmp_path / "parts")
    for name in whole:
        torch.testing.assert_close(parts[name], whole[name], rtol=1e-4, atol=2e-5)
    # AdamW and clipping forgive a wrong scale; the log does not
    first, second = (read_log(tmp_path / run / "log.jsonl") for run in ("whole", "parts"))
    for a, b in zip(first, second, strict=True):
        if a["event"] == "step":
            assert (b["loss"], b["grad_norm"]) == pytest.approx((a["loss"], a["grad_norm"]), rel=1e-3)


def test_a_subset_trains_on_fewer_and_evaluates_on_all(toys, tmp_path):
    results = retrain(toy_recipe(toys, tmp_path / "run", epochs=1, subset=0.5))
    assert (results.train_images, results.steps) == (24, 3)
    assert results.rows[-1].images == results.val_images == 24


class TestObjective:
    @pytest.mark.parametrize(("smoothing", "case"), [(0.0, "cross_entropy"), (0.1, "label_smoothing_0.1")])
    def test_distillation_matches_the_authors_program(self, smoothing, case):
        golden = json.loads((goldens.FOLDER / "distill.json").read_text())
        student = 2 * goldens.noise("distill:student", (4, 10), torch.float64)
        teacher = 2 * goldens.noise("distill:teacher", (4, 10), torch.float64)
        labels = torch.tensor(golden["labels"])
        expected = golden["values"][case]
        base = torch.nn.functional.cross_entropy(student, labels, label_smoothing=smoothing)
        assert divergence(teacher, student).item() == pytest.approx(expected["kl_f64"], rel=1e-6)
        total = base + golden["distill_weight"] * divergence(teacher, student)
        assert total.item() == pytest.approx(expected["total_f64"], rel=1e-6)

    def test_it_is_the_sum_of_its_parts(self):
        model = create_model("vim_tiny", **SIZES, num_classes=3)
        recipe = Recipe(model="x", weights="y", mixup=0, cutmix=0, label_smoothing=0.2, distill=0.5)
        teacher = create_model("vim_tiny", **SIZES, num_classes=3)
        images, labels = torch.randn(4, 3, 16, 16), torch.tensor([0, 1, 2, 0])
        logits = model(images)
        expected = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.2)
        expected = expected + 0.5 * divergence(teacher(images), logits)
        torch.testing.assert_close(Objective(recipe, 3, teacher)(model, images, labels), expected)

    def test_mixing_leaves_the_images_alone_and_keeps_the_labels_mass(self):
        seen = []

        def model(images):
            seen.append(images)
            return torch.zeros(len(images), 3)

        images = torch.randn(4, 3, 16, 16)
        before = images.clone()
        loss = Objective(Recipe(label_smoothing=0), 3, None)(model, images, torch.tensor([0, 1, 2, 0]))
        assert torch.equal(images, before)
        assert not torch.equal(seen[0], before)
        assert loss.item() == pytest.approx(math.log(3))

    def test_the_teacher_is_whole_still_and_fixed(self):
        model = create_model("vim_tiny", **SIZES, num_classes=3, drop_path_rate=0.5, reduction=REDUCTION).train()
        teacher = make_teacher(model, Recipe(weights="w", distill=1.0), torch.device("cpu"))
        assert teacher.reduction is None
        assert not teacher.training
        assert not any(p.requires_grad for p in teacher.parameters())
        assert str(model.reduction) == REDUCTION

    def test_an_untrained_teacher_is_refused(self, toys, tmp_path):
        with pytest.raises(ConfigError, match="nothing to teach"):
            retrain(toy_recipe(toys, tmp_path / "run", distill=0.5))

    def test_distillation_holds_the_student_near_the_teacher(self, trained, toys, tmp_path):
        model, _ = trained
        source, transform = (
            open_data(toys, "val"),
            evaluation_transform(Preparation.of(create_model(str(model))), glyphs=False),
        )
        images = torch.stack([transform(source.read(index)) for index in range(24)])
        distances = []
        for weight in (0.0, 20.0):
            output = tmp_path / f"run{weight}"
            retrain(toy_recipe(toys, output, distill=weight, model=str(model), model_options=()))
            with torch.no_grad():
                logits, target = create_model(str(output))(images), create_model(str(model))(images)
            distances.append(divergence(target, logits).item())
        assert distances[1] < distances[0] / 2


def test_weight_decay_spares_norms_biases_embeddings_and_the_state_space_parameters():
    model = create_model("vim_tiny", **SIZES)
    decayed, spared = make_optimizer(model, Recipe()).param_groups
    names = {id(p): name for name, p in model.named_parameters()}
    endings = {".".join(names[id(p)].split(".")[-2:]) for p in decayed["params"]}
    assert decayed["weight_decay"] == 0.05
    assert endings == {
        "head.weight", "proj.weight", "in_proj.weight", "out_proj.weight", "conv1d.weight", "conv1d_b.weight",
        "x_proj.weight", "x_proj_b.weight", "dt_proj.weight", "dt_proj_b.weight",
    }  # fmt: skip
    assert spared["weight_decay"] == 0
    assert len(decayed["params"]) + len(spared["params"]) == len(names)
    spared_names = {names[id(p)] for p in spared["params"]}
    assert {"pos_embed", "cls_token", "norm_f.weight", "head.bias", "layers.0.mixer.A_log"} <= spared_names


def test_the_average_follows_its_formula():
    model = create_model("vim_tiny", **SIZES)
    average = WeightAverage(model, decay=0.15)
    expected = model.head.bias.detach().clone()
    for update in range(1, 4):
        with torch.no_grad():
            model.head.bias.add_(1.0)
        average.update(model)
        keep = min(0.15, (1 + update) / (10 + update))
        expected = keep * expected + (1 - keep) * model.head.bias.detach()
        torch.testing.assert_close(average.model.head.bias, expected)
    assert average.updates == 3


def test_with_an_average_the_average_is_evaluated_and_saved(toys, tmp_path):
    plain = retrain(toy_recipe(toys, tmp_path / "plain", epochs=1))
    averaged = retrain(toy_recipe(toys, tmp_path / "averaged", epochs=1, ema_decay=0.9))
    assert averaged.rows[0].loss > averaged.rows[-1].loss > plain.rows[-1].loss
    evaluation = evaluate(create_model(str(tmp_path / "averaged")), toys, batch_size=8, workers=0)
    assert evaluation.loss == pytest.approx(averaged.rows[-1].loss)


TEN_COLOURS = {f"c{i}": (25 * i, 128, 250 - 25 * i) for i in range(10)}


class TestGate:
    def test_a_model_that_should_know_and_guesses_is_suspected(self, tmp_path):
        data = make_folder(tmp_path / "ten", train=2, val=2, colours=TEN_COLOURS)
        model = create_model("vim_tiny", **SIZES, num_classes=10)
        with torch.no_grad():
            model.head.weight.zero_()
        rmeeto.save_model(model, tmp_path / "model")
        recipe = toy_recipe(data, tmp_path / "run", model=str(tmp_path / "model"), model_options=(), epochs=1)
        with pytest.warns(RmeetoWarning, match="10.00 % on 10 classes.*class folders are in another order"):
            retrain(recipe)

    def test_from_scratch_guessing_is_expected(self, tmp_path):
        data = make_folder(tmp_path / "ten", train=2, val=1, colours=TEN_COLOURS)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            retrain(toy_recipe(data, tmp_path / "run", epochs=1))


class TestBadInput:
    @pytest.mark.parametrize(
        ("changes", "kind", "words"),
        [
            ({"data": "/nowhere"}, DataError, "no such folder"),
            ({"model_options": {**SIZES, "num_classes": 7}}, DataError, "3 classes of images .* 7 classes"),
            ({"weights": "/nowhere.pth"}, CheckpointError, "no such file"),
            ({"reduction": "merge:r=100"}, ConfigError, "remove 100 tokens"),
            ({"batch_size": 1000}, DataError, "too few for one step"),
            ({"auto_augment": "magic"}, ConfigError, "magic"),
            ({"auto_augment": "rand-m9-nonsense"}, ConfigError, "the section 'nonsense'"),
        ],
    )
    def test_it_is_refused_before_anything_is_written(self, toys, tmp_path, changes, kind, words):
        output = tmp_path / "run"
        with pytest.raises(kind, match=words):
            retrain(toy_recipe(**{"data": toys, "output": output, **changes}))
        assert not output.exists()

    def test_an_output_in_use_is_not_touched(self, toys, tmp_path):
        (tmp_path / "thesis.tex").write_text("ten years")
        with pytest.raises(RunError, match=r"folder is in use.*thesis\.tex"):
            retrain(toy_recipe(toys, tmp_path))
        with pytest.raises(RunError, match="holds no run"):
            retrain(toy_recipe(toys, tmp_path), resume=True)
        assert (tmp_path / "thesis.tex").read_text() == "ten years"

    def test_a_finished_run_is_not_overwritten(self, trained, toys):
        output, _ = trained
        with pytest.raises(RunError, match="it holds a run"):
            retrain(toy_recipe(toys, output, epochs=4))

    def test_two_runs_do_not_share_a_folder(self, toys, tmp_path):
        output = tmp_path / "run"
        caught = []

        def second_run(step):
            code = "import sys; from rmeeto.training import retrain; from rmeeto.recipe import load_recipe\n"
            code += "retrain(load_recipe(sys.argv[1]), resume=True)"
            if step == 1:
                caught.append(Fresh(code, output / "recipe.toml"))
                caught[0].wait()

        retrain(toy_recipe(toys, output, epochs=1), progress=Recorder(at_step=second_run))
        assert caught[0].returncode != 0
        assert "is running in it" in caught[0].stderr
        assert "process " in caught[0].stderr
        assert load_results(output).steps == 6

    def test_an_unreadable_training_image_is_skipped_named_and_counted(self, tmp_path):
        data = make_folder(tmp_path / "toys", train=8, val=2)
        broken = truncate(data / "train" / "red" / "0.png")
        watcher = Recorder()
        results = retrain(toy_recipe(data, tmp_path / "run", epochs=3), progress=watcher)
        assert [name.split(": ")[0] for name in results.skipped_images] == [str(broken)]
        assert sum(message.startswith("unreadable, replaced") for message in watcher.messages) == 1
        steps = [r for r in read_log(tmp_path / "run" / "log.jsonl") if r["event"] == "step"]
        assert steps[-1]["skipped_images"] == 3

    def test_an_unreadable_validation_image_stops_it_before_training(self, tmp_path):
        data = make_folder(tmp_path / "toys", train=8, val=2)
        broken = truncate(data / "val" / "red" / "0.png")
        with pytest.raises(DataError, match="another set") as error:
            retrain(toy_recipe(data, tmp_path / "run"))
        assert str(broken) in str(error.value)
        broken.unlink()
        assert retrain(toy_recipe(data, tmp_path / "run", epochs=1)).val_images == 5  # nothing to resume, nothing lost


def test_a_warm_up_that_never_ends_is_said(toys, tmp_path):
    with pytest.warns(RmeetoWarning, match=r"the run has 6 steps: .* never reaches lr = 0\.003"):
        retrain(toy_recipe(toys, tmp_path / "run", epochs=1, warmup_steps=1_000_000))
    assert LearningRate(3e-3, 1e-6, warmup_steps=5, total_steps=6).warning() is None


class TestNonFinite:
    @pytest.fixture
    def plant(self, monkeypatch):
        """Make one module of the next model spit infinity in some of its training passes, counted from 1."""

        def plant(module_name, passes):
            build = run_module.build_model

            def planted(recipe, classes):
                model = build(recipe, classes)
                counter = iter(range(1, 10**6))

                def spit(module, inputs, output):
                    return output * torch.inf if model.training and next(counter) in passes else output

                model.get_submodule(module_name).register_forward_hook(spit)
                return model

            monkeypatch.setattr(run_module, "build_model", planted)

        return plant

    def test_a_single_bad_step_is_skipped_and_counted(self, toys, tmp_path, plant):
        plant("layers.1.mixer.out_proj", passes={2})
        watcher = Recorder()
        results = retrain(toy_recipe(toys, tmp_path / "run", epochs=1), progress=watcher)
        assert (results.skipped_steps, results.steps) == (1, 6)
        assert any("step 1 skipped" in message for message in watcher.messages)
        assert all(value.isfinite().all() for value in weights_of(tmp_path / "run").values())
        log = read_log(tmp_path / "run" / "log.jsonl")
        assert [record["step"] for record in log if record["event"] == "skipped_step"] == [2]
        json.dumps(log, allow_nan=False)

    def test_three_bad_steps_stop_it_and_name_the_place(self, toys, tmp_path, plant):
        plant("layers.1.mixer.out_proj", passes=range(8, 1000))
        with pytest.raises(RunError, match=r"output of layers\.1\.mixer\.out_proj") as error:
            retrain(toy_recipe(toys, tmp_path / "run"))
        assert "take step 9" in str(error.value)
        assert all(value.isfinite().all() for value in weights_of(tmp_path / "run").values())
        state = torch.load(tmp_path / "run" / "state.pt", weights_only=True)
        assert state["journal"]["step"] == 6

    def test_bad_steps_in_a_row_are_forgotten_after_a_good_one(self, toys, tmp_path, plant):
        plant("layers.1.mixer.out_proj", passes={1, 2, 4, 5})
        assert retrain(toy_recipe(toys, tmp_path / "run", epochs=1)).skipped_steps == 4

    def test_a_gradient_that_explodes_is_named(self, toys, tmp_path, monkeypatch):
        class Exploding(Objective):
            def __call__(self, model, images, labels, part=None):
                loss = super().__call__(model, images, labels, part)
                if loss.requires_grad:
                    loss.register_hook(lambda gradient: gradient * torch.inf)
                return loss

        monkeypatch.setattr(run_module, "Objective", Exploding)
        with pytest.raises(RunError, match="gradient of"):
            retrain(toy_recipe(toys, tmp_path / "run"))

    @pytest.mark.parametrize("clip_grad", [None, 1.0])
    def test_a_parameter_that_is_not_finite_is_found_by_the_first_module_that_gives_it(
        self, toys, tmp_path, monkeypatch, clip_grad
    ):
        def damage(model):
            with torch.no_grad():
                model.layers[0].mixer.D[3] = torch.nan

        damaged_after_evaluation(monkeypatch, damage)
        with pytest.raises(RunError, match=r"first appear in: (input|output) of layers\.0\.mixer"):
            retrain(toy_recipe(toys, tmp_path / "run", clip_grad=clip_grad))

    @pytest.mark.parametrize("clip_grad", [None, 1.0])
    @pytest.mark.parametrize("name", ["layers.0.mixer.D", "layers.2.mixer.A_log", "head.bias"])
    def test_a_gradient_that_is_not_finite_is_named_before_clipping_spreads_it(
        self, toys, tmp_path, monkeypatch, clip_grad, name
    ):
        def damage(model):
            model.get_parameter(name).register_hook(lambda gradient: gradient * torch.nan)

        damaged_after_evaluation(monkeypatch, damage)
        with pytest.raises(RunError, match=rf"first appear in: gradient of {name}\n"):
            retrain(toy_recipe(toys, tmp_path / "run", clip_grad=clip_grad))

    def test_a_gradient_that_spreads_is_named_where_it_begins(self, toys, tmp_path, monkeypatch):
        """The backward pass goes from the head to the patches, and takes the NaN along with it."""

        def damage(model):
            model.layers[2].mixer.out_proj.register_forward_hook(Spoil.apply_to)

        damaged_after_evaluation(monkeypatch, damage)
        with pytest.raises(RunError, match=r"first appear in: gradient of layers\.2\."):
            retrain(toy_recipe(toys, tmp_path / "run"))


class Spoil(torch.autograd.Function):
    """Hands values on as they are, and gradients as NaN."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * torch.nan

    @staticmethod
    def apply_to(module, inputs, output):
        return Spoil.apply(output)


def damaged_after_evaluation(monkeypatch, damage):
    """Do something to the model before its first step, when all of its evaluations are over."""
    step = run_module.Stepper.step

    def stepped(self, number, *args, **options):
        if number == 0:
            damage(self.model)
        return step(self, number, *args, **options)

    monkeypatch.setattr(run_module.Stepper, "step", stepped)


def test_a_batch_too_large_for_the_device_says_what_to_halve(toys, tmp_path, monkeypatch):
    class Greedy(Objective):
        def __call__(self, model, images, labels, part=None):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 90.00 GiB.\nSee the manual.")

    monkeypatch.setattr(run_module, "Objective", Greedy)
    with pytest.raises(RunError, match=r"90\.00 GiB\.\n.*halve batch_size"):
        retrain(toy_recipe(toys, tmp_path / "run"))


class TestFullDisk:
    def test_the_last_state_and_model_are_untouched(self, toys, tmp_path, monkeypatch):
        output = tmp_path / "run"
        kept = {}
        original = torch.save

        def full(content, file):
            if content["journal"]["step"] < 9:
                original(content, file)
                kept["state"] = None
                return
            kept["state"] = (output / "state.pt").read_bytes()
            file.write(b"half of it")
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(rmeeto.training.run_state.torch, "save", full)
        with pytest.raises(RunError, match="No space left") as error:
            retrain(toy_recipe(toys, output, save_every_seconds=0.0))
        assert "untouched" in str(error.value)
        assert (output / "state.pt").read_bytes() == kept["state"]
        assert not list(output.glob(".*state*"))
        monkeypatch.undo()
        resumed = retrain(toy_recipe(toys, output, save_every_seconds=0.0), resume=True)
        whole = retrain(toy_recipe(toys, tmp_path / "whole"))
        assert resumed.epochs == whole.epochs

    def test_a_log_that_cannot_be_written(self, toys, tmp_path):
        output = tmp_path / "run"

        def replace_log(step):
            if step == 1:
                (output / "log.jsonl").unlink()
                (output / "log.jsonl").symlink_to("/dev/full")

        with pytest.raises(RunError, match=r"log\.jsonl"):
            retrain(toy_recipe(toys, output), progress=Recorder(at_step=replace_log))


def test_a_warning_free_small_image_run_of_the_default_augmentation(toys, tmp_path):
    recipe = Recipe(
        model="vim_tiny", model_options=SIZES, data=str(toys), output=str(tmp_path / "run"), epochs=1, batch_size=8,
        workers=0, drop_path_rate=0.1, clip_grad=None, precision="bfloat16",
    )  # fmt: skip
    results = retrain(recipe)
    assert results.precision == "bfloat16"
    assert results.skipped_steps == 0
    assert len(COLOURS) == results.classes


class TestAnnealing:
    def test_the_reduction_grows_while_training_and_is_whole_when_scored(self, toys, tmp_path, monkeypatch):
        trained_with, scored_with = [], []
        stepped, evaluated = run_module.Stepper.step, run_module.evaluate

        def step(self, *args, **options):
            trained_with.append(sum(self.model.schedule.counts))
            return stepped(self, *args, **options)

        def score(model, *args, **options):
            scored_with.append(sum(model.schedule.counts))
            return evaluated(model, *args, **options)

        monkeypatch.setattr(run_module.Stepper, "step", step)
        monkeypatch.setattr(run_module, "evaluate", score)
        retrain(toy_recipe(toys, tmp_path / "run", reduction="merge:r=6,blocks=all", anneal=0.5))
        whole = 6 + 5 + 2  # 17 tokens; each block can lose half of its patches
        half = len(trained_with) // 2
        assert trained_with[0] == 0
        assert trained_with == sorted(trained_with)
        assert 0 < trained_with[half // 2] < whole
        assert set(trained_with[half:]) == {whole}
        assert scored_with == [0, whole, whole, whole]  # unreduced, reduced, two epochs

    def test_counts_that_are_not_ours_cannot_grow(self, toys, tmp_path):
        with pytest.raises(ConfigError, match="anneal"):
            retrain(toy_recipe(toys, tmp_path / "run", reduction="released:r=2", anneal=0.5))
        assert not (tmp_path / "run" / "recipe.toml").exists()
