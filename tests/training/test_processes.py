"""Several processes, and several forward passes, train as one process does in one pass over the same images."""

import re
import time

import pytest
import torch
from timm.layers.drop import DropPath

import launch
import rmeeto.training.conditions as conditions
from rmeeto import create_model
from rmeeto.errors import RunError
from rmeeto.evaluation.results import load_results
from rmeeto.recipe import Recipe
from rmeeto.runtime.processes import PeerLost, talking
from rmeeto.runtime.randomness import Part, drawing_for, rand_by_image, seed_of
from rmeeto.training import retrain
from rmeeto.training.by_image import DropoutByImage, DropPathByImage, LayersByImage
from rmeeto.training.conditions import changes
from rmeeto.training.gradients import average_gradients
from rmeeto.training.interruption import Interrupted
from rmeeto.training.mixing import Mixing
from rmeeto.training.runlog import read_log
from toys import SIZES, Recorder, make_folder, toy_recipe

# Everything that draws numbers in training, and everything that holds state.
EVERYTHING = {
    "batch_size": 16,
    "mixup": 0.8,
    "cutmix": 1.0,
    "random_erasing": 0.5,
    "auto_augment": "rand-m9-mstd0.5-inc1",
    "drop_path_rate": 0.4,
    "reduction": "merge:r=3,grouping=random",
    "ema_decay": 0.9,
}


@pytest.fixture(scope="session")
def toys(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("toys") / "toys", train=32, val=4)


@pytest.fixture(scope="session")
def alone(toys, tmp_path_factory):
    """The run of one process, one forward pass for each of its 12 steps."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    output = tmp_path_factory.mktemp("alone") / "run"
    retrain(toy_recipe(toys, output, **EVERYTHING))
    torch.set_num_threads(threads)
    return output


# In the same processes: a run without interruption, then one that is interrupted and resumed.
WHOLE_AND_RESUMED = """
import signal, sys
from toys import SIZES, Recorder
from rmeeto.recipe import load_recipe
from rmeeto.training import retrain
from rmeeto.training.interruption import Interrupted
recipe, step = load_recipe(sys.argv[1]), int(sys.argv[3])
retrain(recipe.changed(output=sys.argv[2] + "/whole"))
interrupted = recipe.changed(output=sys.argv[2] + "/resumed")
try:
    retrain(interrupted, progress=Recorder(at_step=lambda now: now == step and signal.raise_signal(signal.SIGTERM)))
except Interrupted:
    pass
else:
    sys.exit("it was not interrupted")
retrain(interrupted, resume=True)
"""


@pytest.fixture(scope="session", params=[2, 4])
def shared(request, toys, tmp_path_factory):
    folder = tmp_path_factory.mktemp(f"shared{request.param}")
    (folder / "recipe.toml").write_text(toy_recipe(toys, folder, **EVERYTHING).to_toml())
    codes = launch.run(request.param, WHOLE_AND_RESUMED, folder / "recipe.toml", folder, 4)
    assert codes == [0] * request.param
    return folder


def weights_of(folder):
    return create_model(str(folder)).state_dict()


def figures(output):
    """Losses and gradient norms of each step, losses and accuracies of each evaluation."""
    log = read_log(output / "log.jsonl")
    steps = [(r["step"], r["loss"], r["grad_norm"]) for r in log if r["event"] == "step"]
    return steps, [(r["loss"], r["top1_percent"]) for r in log if r["event"] == "evaluation"]


def assert_nearly_equal(ours, theirs):
    """Losses and gradient norms to 1e-5 of themselves, weights to 2e-5 after 12 steps at lr 3e-3: rounding alone."""
    # evaluations are left out: this reduction draws, and scores by other draws where batches are others
    mine, other = figures(ours)[0], figures(theirs)[0]
    torch.testing.assert_close(torch.tensor(mine), torch.tensor(other), rtol=1e-5, atol=2e-6)
    mine, other = weights_of(ours), weights_of(theirs)
    for name, value in other.items():
        torch.testing.assert_close(mine[name], value, rtol=0, atol=2e-5, msg=lambda text, name=name: f"{name}: {text}")


def test_several_processes_train_as_one(shared, alone):
    assert_nearly_equal(shared / "whole", alone)


def test_several_processes_go_on_bit_for_bit(shared):
    ours, theirs = weights_of(shared / "resumed"), weights_of(shared / "whole")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert figures(shared / "resumed") == figures(shared / "whole")
    assert load_results(shared / "resumed").changes == ()


@pytest.mark.parametrize("accumulate", [2, 4])
def test_several_passes_train_as_one(toys, alone, tmp_path, accumulate):
    sizes = {"batch_size": 16 // accumulate, "accumulate": accumulate}
    retrain(toy_recipe(toys, tmp_path / "run", **{**EVERYTHING, **sizes}))
    assert_nearly_equal(tmp_path / "run", alone)


class TestAverageGradients:
    """Two processes, the other of which is played by its flat buffer."""

    def average(self, monkeypatch, ours, theirs):
        parameters = [torch.nn.Parameter(torch.zeros(shape)) for shape in ((2, 3), (4,), (1,))]

        def flat(gradients):
            parts = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, gradients, strict=True)]
            owned = torch.tensor([float(g is not None) for g in gradients])
            return torch.cat([*(part.flatten() for part in parts), owned])

        monkeypatch.setattr(torch.distributed, "all_reduce", lambda buffer: buffer.add_(flat(theirs)))
        monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
        for parameter, gradient in zip(parameters, ours, strict=True):
            parameter.grad = gradient
        average_gradients(parameters)
        return [parameter.grad for parameter in parameters]

    def test_each_is_the_mean_in_its_own_shape(self, monkeypatch):
        ours, theirs = ([torch.randn(2, 3), torch.randn(4), torch.randn(1)] for _ in range(2))
        found = self.average(monkeypatch, [value.clone() for value in ours], theirs)
        for mean, a, b in zip(found, ours, theirs, strict=True):
            torch.testing.assert_close(mean, (a + b) / 2)

    def test_one_that_a_process_lacks_counts_as_zero_and_one_that_all_lack_stays_none(self, monkeypatch):
        ours = [torch.ones(2, 3), None, None]
        found = self.average(monkeypatch, ours, [None, torch.ones(4), None])
        assert torch.equal(found[0], torch.full((2, 3), 0.5))
        assert torch.equal(found[1], torch.full((4,), 0.5))
        assert found[2] is None


def test_processes_that_begin_at_different_steps_are_refused(monkeypatch):
    monkeypatch.setattr(conditions, "gather_object", lambda mine: [*mine, (4, "b")])
    with pytest.raises(RunError, match=r"process 1: after step 4.*\n.*same run folder"):
        conditions.check_same_beginning(0, "b")
    monkeypatch.setattr(conditions, "gather_object", lambda mine: [*mine, *mine])
    conditions.check_same_beginning(4, "b")


def shared_steps(images_per_step):
    """All ways to share a step of so many images with mixing, as (plan, rank, micro-batch)."""
    for processes in (1, 2, 4, 8):
        for accumulate in (1, 2, 4):
            recipe = Recipe(batch_size=images_per_step // accumulate, accumulate=accumulate)
            plan = recipe.batch_plan(images_per_step, processes)
            yield [(plan, rank, micro) for rank in range(processes) for micro in range(plan.micro_batches)]


@pytest.mark.parametrize("images", [16, 384])
def test_every_way_to_share_a_step_has_the_same_images_and_whole_pairs(images):
    for ways in shared_steps(images):
        places = [plan.places(rank, micro) for plan, rank, micro in ways]
        assert sorted(place for part in places for place in part) == list(range(images))
        assert all(a + b == images - 1 for part in places for a, b in zip(part, reversed(part), strict=True))


def test_an_odd_part_is_shared_too_where_nothing_is_mixed():
    plan = Recipe(batch_size=9, mixup=0, cutmix=0).batch_plan(9, 3)
    assert sorted(place for rank in range(3) for place in plan.places(rank, 0)) == list(range(9))


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.8, 1.0), (0.8, 0.0), (0.0, 1.0)])
@pytest.mark.parametrize("images", [16, 384])
def test_every_way_to_share_a_step_mixes_the_same(images, mixup, cutmix):
    mixing = Mixing(Recipe(mixup=mixup, cutmix=cutmix), num_classes=5)
    pixels, labels = torch.randn(images, 3, 8, 8), torch.randint(5, (images,))
    seen = []
    for ways in shared_steps(images):
        together = torch.empty_like(pixels), torch.empty(images, 5)
        for plan, rank, micro in ways:
            part = Part(seed_of(7), images, plan.places(rank, micro))
            rows = list(part.places)
            for whole, mixed in zip(together, mixing(pixels[rows], labels[rows], part), strict=True):
                whole[rows] = mixed
        seen.append(together)
    assert not torch.equal(seen[0][0], pixels)
    for mixed, soft in seen[1:]:
        assert torch.equal(mixed, seen[0][0])
        assert torch.equal(soft, seen[0][1])


def test_up_to_128_images_are_mixed_by_timms_one_ratio_and_more_by_several():
    mixing = Mixing(Recipe(mixup=0.8, cutmix=0, label_smoothing=0), num_classes=2)
    for images, ratios in ((16, 1), (128, 1), (384, 3)):
        labels = (torch.arange(images) >= images // 2).long()  # each pair has one of either class
        part = Part(3, images, range(images))
        _, soft = mixing(torch.zeros(images, 1, 2, 2), labels, part)
        assert len(soft[: images // 2, 0].unique()) == ratios
        torch.testing.assert_close(soft + soft.flip(0), torch.ones_like(soft))


class TestDrawsByImage:
    def test_without_a_step_they_are_torchs_own(self):
        torch.manual_seed(0)
        drawn = rand_by_image((4, 3), torch.device("cpu"))
        torch.manual_seed(0)
        assert torch.equal(drawn, torch.rand(4, 3))

    @pytest.mark.parametrize("layer", [DropPathByImage(0.5), DropoutByImage(0.5)], ids=["drop path", "dropout"])
    def test_an_image_meets_the_same_draws_in_every_part(self, layer):
        x = torch.randn(8, 5, 3)
        with drawing_for(Part(1, 8, range(8))):
            whole = [layer(x), layer(x)]
        assert not torch.equal(*whole)
        for places in ((0, 7), (2, 3, 4, 5), (6,)):
            with drawing_for(Part(1, 8, places)):
                for expected in whole:
                    assert torch.equal(layer(x[list(places)]), expected[list(places)])

    @pytest.mark.parametrize("layer", [DropPathByImage(0.3), DropoutByImage(0.3)], ids=["drop path", "dropout"])
    def test_they_keep_the_mean_and_do_nothing_in_evaluation(self, layer):
        x = torch.ones(20_000, 1, 1)
        torch.manual_seed(0)
        dropped = layer.train()(x)
        assert dropped.unique().tolist() == pytest.approx([0, 1 / 0.7])
        assert dropped.mean().item() == pytest.approx(1, abs=0.02)
        assert layer.eval()(x) is x
        layer.train()

    @pytest.mark.parametrize(
        ("name", "options", "expected"),
        [
            ("vim_tiny", {**SIZES, "drop_path_rate": 0.2, "drop_rate": 0.1}, {DropPathByImage, DropoutByImage}),
            (
                "deit_tiny_patch16_224",
                {"depth": 2, "drop_path_rate": 0.2, "proj_drop_rate": 0.1},
                {DropPathByImage, DropoutByImage},
            ),
            ("deit_tiny_patch16_224", {"depth": 2}, set()),
        ],
    )
    def test_within_a_step_they_take_the_place_of_timms_and_torchs(self, name, options, expected):
        model = create_model(name, **options)
        before = list(model.modules())
        with LayersByImage(model).in_place():
            kinds = {type(module) for module in model.modules()}
            assert {kind for kind in kinds if kind in (DropPathByImage, DropoutByImage)} == expected
            for module in model.modules():
                assert type(module) is not DropPath or not module.drop_prob
                assert type(module) is not torch.nn.Dropout or not module.p
        assert all(a is b for a, b in zip(model.modules(), before, strict=True))


class TestAnnouncedChanges:
    def test_another_number_of_processes_or_threads_is_said_and_logged_and_in_the_results(self, toys, tmp_path):
        recipe = toy_recipe(toys, tmp_path / "run", batch_size=16)
        threads = torch.get_num_threads()
        with pytest.raises(Interrupted):
            retrain(recipe, progress=stop_after(3))
        state = torch.load(tmp_path / "run" / "state.pt", weights_only=True)
        assert (state["journal"]["conditions"]["threads"], state["journal"]["conditions"]["processes"]) == (threads, 1)
        watcher = Recorder()
        torch.set_num_threads(threads + 1)
        try:
            results = retrain(recipe, resume=True, progress=watcher)
        finally:
            torch.set_num_threads(threads)
        change = f"threads: {threads} → {threads + 1}"
        assert any(change in message and "not bit for bit" in message for message in watcher.messages)
        assert results.changes == (f"after step 3, {change}",)
        assert (results.processes, results.threads) == (1, threads + 1)
        assert load_results(tmp_path / "run") == results
        logged = [r for r in read_log(tmp_path / "run" / "log.jsonl") if r["event"] == "changed_conditions"]
        assert [(r["step"], r["changes"]) for r in logged] == [(3, [change])]

    def test_nothing_is_said_where_nothing_has_changed(self, toys, tmp_path):
        recipe = toy_recipe(toys, tmp_path / "run", batch_size=16)
        with pytest.raises(Interrupted):
            retrain(recipe, progress=stop_after(3))
        watcher = Recorder()
        assert retrain(recipe, resume=True, progress=watcher).changes == ()
        assert not any("not as before" in message for message in watcher.messages)

    def test_a_state_of_an_earlier_version_has_none_to_compare(self):
        assert changes({}, {"threads": 2}) == ()


def stop_after(step):
    import signal

    return Recorder(at_step=lambda now: signal.raise_signal(signal.SIGTERM) if now == step else None)


LOSES_A_PEER = """
import os, signal, sys
from rmeeto.recipe import load_recipe
import rmeeto.training.run as run
from rmeeto.training.step import Stepper
step, lost = Stepper.step, sys.argv[2]
def stepped(self, number, batches, *, interrupted):
    if number == 5 and os.environ["RANK"] == lost:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, number, batches, interrupted=interrupted)
Stepper.step = stepped
from rmeeto.cli import main
sys.argv = ["rmeeto", "retrain", "--recipe", sys.argv[1], "--save-every-seconds", "0"]
main()
"""


@pytest.mark.parametrize("lost", [0, 1])
def test_a_process_that_loses_its_peer_says_so_in_a_few_lines_and_the_run_can_go_on(toys, tmp_path, lost):
    recipe = toy_recipe(toys, tmp_path / "run", batch_size=16, save_every_seconds=1000)
    (tmp_path / "recipe.toml").write_text(recipe.to_toml())
    processes = launch.start(2, LOSES_A_PEER, tmp_path / "recipe.toml", lost)
    processes[lost].wait(timeout=120)
    ended = time.monotonic()
    code, stderr = processes[1 - lost].wait(timeout=60), processes[1 - lost].stderr
    assert time.monotonic() - ended < 10
    assert code == 2, stderr
    assert "Traceback" not in stderr
    assert re.search(r"another one has ended", stderr)
    assert "--resume" in stderr
    state = torch.load(tmp_path / "run" / "state.pt", weights_only=True)
    assert state["journal"]["step"] == 5
    assert retrain(recipe, resume=True).steps == 12


def test_an_error_outside_of_a_process_group_is_not_blamed_on_a_peer():
    with pytest.raises(RuntimeError, match="mine") as caught, talking():
        raise RuntimeError("mine")
    assert not isinstance(caught.value, PeerLost)
