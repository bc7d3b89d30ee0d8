import os
import signal
import sys
import time

import pytest
import torch

import launch
from fresh import Fresh
from rmeeto import create_model
from rmeeto.errors import RunError
from rmeeto.evaluation.results import load_results
from rmeeto.training import retrain
from rmeeto.training.interruption import Interrupted, Interruption
from rmeeto.training.runlog import RunLog, read_log
from toys import Recorder, make_folder, toy_recipe

forks = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")

# Everything that holds state or draws numbers, at once.
EVERYTHING = {
    "accumulate": 2,
    "batch_size": 4,
    "ema_decay": 0.9,
    "mixup": 0.8,
    "cutmix": 1.0,
    "random_erasing": 0.3,
    "auto_augment": "rand-m9-mstd0.5-inc1",
    "drop_path_rate": 0.3,
    "warmup_steps": 2,
    "reduction": "merge:r=3,grouping=random",
}
NOT_TIMES = ("event", "step", "epoch", "loss", "lr", "grad_norm", "top1_percent", "skipped_images", "skipped_steps")


@pytest.fixture(scope="session")
def toys(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("toys") / "toys", train=16, val=4)


@pytest.fixture(scope="session")
def whole(toys, tmp_path_factory):
    """The uninterrupted run: 2 epochs of 6 steps."""
    output = tmp_path_factory.mktemp("whole") / "run"
    retrain(toy_recipe(toys, output, **EVERYTHING))
    return output


def send(number):
    return lambda: signal.raise_signal(number)


class PowerCut(BaseException):
    """Nothing gets saved any more."""


def cut():
    raise PowerCut


def at(step, act):
    return Recorder(at_step=lambda now: act() if now == step else None)


def assert_same_run(resumed, whole):
    for folder in ("", "best"):
        ours = create_model(str(resumed / folder)).state_dict()
        theirs = create_model(str(whole / folder)).state_dict()
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert load_results(resumed).epochs == load_results(whole).epochs
    assert figures(resumed) == figures(whole)


def figures(output):
    log = read_log(output / "log.jsonl")
    return [
        {name: record[name] for name in NOT_TIMES if name in record}
        for record in log
        if record["event"] in ("step", "evaluation")
    ]


@pytest.mark.parametrize("step", [1, 4, 6, 8, 12])
def test_interrupted_and_resumed_equals_uninterrupted_bit_for_bit(toys, whole, tmp_path, step):
    recipe = toy_recipe(toys, tmp_path / "run", **EVERYTHING)
    with pytest.raises(Interrupted, match="--resume"):
        retrain(recipe, progress=at(step, send(signal.SIGINT)))
    assert torch.load(tmp_path / "run" / "state.pt", weights_only=True)["journal"]["step"] == step
    retrain(recipe, resume=True)
    assert_same_run(tmp_path / "run", whole)


def test_power_cuts_cost_only_what_came_after_the_last_save(toys, whole, tmp_path):
    recipe = toy_recipe(toys, tmp_path / "run", save_every_seconds=0.0, **EVERYTHING)
    for step in (2, 3):
        with pytest.raises(PowerCut):
            retrain(recipe, resume=True, progress=at(step, cut))
    assert torch.load(tmp_path / "run" / "state.pt", weights_only=True)["journal"]["step"] == 3
    retrain(recipe, resume=True)
    assert_same_run(tmp_path / "run", whole)


def test_a_cut_that_loses_steps_takes_their_log_lines_back(toys, whole, tmp_path):
    recipe = toy_recipe(toys, tmp_path / "run", **EVERYTHING)
    with pytest.raises(PowerCut):
        retrain(recipe, progress=at(10, cut))
    retrain(recipe, resume=True)
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    assert len(lines) > len(read_log(tmp_path / "run" / "log.jsonl"))
    assert_same_run(tmp_path / "run", whole)


@forks
def test_workers_may_differ_between_the_attempts(toys, whole, tmp_path):
    recipe = toy_recipe(toys, tmp_path / "run", **EVERYTHING)
    with pytest.raises(Interrupted):
        retrain(recipe.changed(workers=2), progress=at(7, send(signal.SIGTERM)))
    retrain(recipe.changed(workers=1), resume=True)
    assert_same_run(tmp_path / "run", whole)


def test_interrupted_while_evaluating_evaluates_again(toys, whole, tmp_path):
    recipe = toy_recipe(toys, tmp_path / "run", **EVERYTHING)

    class InEvaluation(Recorder):
        def message(self, text):
            if text.startswith("reduced + re-trained"):
                signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Interrupted):
        retrain(recipe, progress=InEvaluation())
    retrain(recipe, resume=True)
    assert_same_run(tmp_path / "run", whole)


def test_a_distilling_run_resumes_with_the_same_teacher(toys, whole, tmp_path):
    settings = {"model": str(whole), "model_options": (), "distill": 0.5, "epochs": 1}
    retrain(toy_recipe(toys, tmp_path / "whole", **settings))
    with pytest.raises(Interrupted):
        retrain(toy_recipe(toys, tmp_path / "run", **settings), progress=at(3, send(signal.SIGINT)))
    retrain(toy_recipe(toys, tmp_path / "run", **settings), resume=True)
    assert_same_run(tmp_path / "run", tmp_path / "whole")


def test_resume_begins_what_has_not_begun_and_returns_what_is_done(toys, tmp_path):
    recipe = toy_recipe(toys, tmp_path / "run", epochs=1)
    results = retrain(recipe, resume=True)
    watcher = Recorder()
    assert retrain(recipe, resume=True, progress=watcher) == results
    assert watcher.tasks == []


class TestRefusals:
    @pytest.fixture
    def interrupted(self, toys, tmp_path):
        data = make_folder(tmp_path / "own", train=8, val=2)
        recipe = toy_recipe(data, tmp_path / "run")
        with pytest.raises(Interrupted):
            retrain(recipe, progress=at(2, send(signal.SIGINT)))
        return recipe

    def test_without_resume_the_folder_is_in_use(self, interrupted):
        with pytest.raises(RunError, match="it holds a run"):
            retrain(interrupted)

    def test_a_changed_recipe_is_named_field_by_field(self, interrupted):
        with pytest.raises(RunError, match="recipe has changed") as error:
            retrain(interrupted.changed(lr=1e-4, epochs=5), resume=True)
        assert "lr: 0.003 → 0.0001" in str(error.value)
        assert "epochs: 2 → 5" in str(error.value)

    def test_where_and_how_often_may_change(self, interrupted):
        changed = interrupted.changed(log_every_steps=3, save_every_seconds=9.0)
        assert retrain(changed, resume=True).steps == 6

    def test_moved_data_are_fine_and_other_data_are_not(self, interrupted, tmp_path):
        moved = (tmp_path / "own").rename(tmp_path / "moved")
        elsewhere = interrupted.changed(data=str(moved))
        (moved / "train" / "red" / "0.png").rename(moved / "train" / "red" / "new.png")
        with pytest.raises(RunError, match="data has changed"):
            retrain(elsewhere, resume=True)
        (moved / "train" / "red" / "new.png").rename(moved / "train" / "red" / "0.png")
        assert retrain(elsewhere, resume=True).steps == 6

    def test_two_damaged_states_are_named(self, interrupted, tmp_path):
        for name in ("state.pt", "state.previous.pt"):
            state = tmp_path / "run" / name
            state.write_bytes(state.read_bytes()[:1000])
        with pytest.raises(RunError, match=r"state\.pt, state\.previous\.pt"):
            retrain(interrupted, resume=True)


class TestSignals:
    def test_handlers_are_put_back(self):
        before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
        with Interruption(fix=""):
            assert signal.getsignal(signal.SIGINT) != before[0]
        assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before

    def test_deferred_asks_and_a_second_signal_insists(self):
        def twice(interruption):
            with interruption.deferred():
                signal.raise_signal(signal.SIGINT)
                assert interruption.requested
                signal.raise_signal(signal.SIGINT)

        with Interruption(fix="") as interruption, pytest.raises(KeyboardInterrupt):
            twice(interruption)

    def test_deferred_raises_at_the_end_of_the_block(self):
        done = []

        def work(interruption):
            with interruption.deferred():
                signal.raise_signal(signal.SIGINT)
                done.append("all of it")

        with Interruption(fix="") as interruption, pytest.raises(Interrupted):
            work(interruption)
        assert done == ["all of it"]

    def test_not_deferred_stops_on_the_spot(self):
        with Interruption(fix="") as interruption, pytest.raises(Interrupted):
            signal.raise_signal(signal.SIGTERM)
        assert interruption.requested


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "scheduler"])
def test_a_signal_to_the_whole_process_group_still_saves(toys, tmp_path, number):
    """Terminals and schedulers signal the workers too; the step is finished with their images all the same."""
    recipe = toy_recipe(toys, tmp_path / "run", workers=1, epochs=500)
    (tmp_path / "recipe.toml").write_text(recipe.to_toml())
    code = """
import sys
from rmeeto.training.interruption import Interrupted
from rmeeto.recipe import load_recipe
from rmeeto.training import retrain
try:
    retrain(load_recipe(sys.argv[1]))
except Interrupted as error:
    sys.exit(error.exit_code)
"""
    process = Fresh(code, tmp_path / "recipe.toml")
    log = tmp_path / "run" / "log.jsonl"
    deadline = time.monotonic() + 120
    while not (log.exists() and '"step": 3,' in log.read_text()):
        assert process.poll() is None, process.stderr
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, number)
    assert process.wait(timeout=60) == 130, process.stderr
    assert torch.load(tmp_path / "run" / "state.pt", weights_only=True)["journal"]["step"] >= 3


TWO_PROCESSES = """
import signal, sys, torch
from toys import Recorder
from rmeeto.training.interruption import Interrupted
from rmeeto.recipe import load_recipe
from rmeeto.training import retrain
def stop(step):
    if step == 8:
        signal.raise_signal(signal.SIGTERM)
try:
    retrain(load_recipe(sys.argv[1]), progress=Recorder(at_step=stop))
except Interrupted as error:
    torch.distributed.destroy_process_group()
    sys.exit(error.exit_code)
"""


def test_two_processes_equal_one_and_one_can_finish_what_two_began(toys, tmp_path):
    """Two share each step over gloo. A signal to one stops both, and a single process takes over."""
    recipe = toy_recipe(toys, tmp_path / "shared", batch_size=4, accumulate=2, ema_decay=0.9)
    (tmp_path / "recipe.toml").write_text(recipe.to_toml())
    retrain(recipe.changed(output=str(tmp_path / "alone")))
    assert launch.run(2, TWO_PROCESSES, tmp_path / "recipe.toml") == [130, 130]
    resumed = retrain(recipe, resume=True)
    alone = load_results(tmp_path / "alone")
    for shared_row, row in zip(figures(tmp_path / "shared"), figures(tmp_path / "alone"), strict=True):
        assert shared_row.pop("event") == row.pop("event")
        assert shared_row == pytest.approx(row, rel=2e-3)
    assert [row.images for row in resumed.rows] == [row.images for row in alone.rows] == [12, 12]
    ours, theirs = (create_model(str(tmp_path / name)).state_dict() for name in ("shared", "alone"))
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-3, atol=1e-4)


def test_a_half_written_last_line_is_left_out(tmp_path):
    log = RunLog(tmp_path / "log.jsonl")
    log.write("step", 1, loss=0.5)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"event": "st')
    assert read_log(tmp_path / "log.jsonl") == [{"event": "step", "step": 1, "loss": 0.5}]


def test_a_run_that_stops_between_the_first_evaluations_does_both_again(toys, tmp_path, monkeypatch):
    run = sys.modules["rmeeto.training.run"]
    evaluate, done = run.evaluate, []

    def fail_at_second(*arguments, **options):
        done.append(options["description"])
        if len(done) == 2:
            raise OSError("the disk is gone")
        return evaluate(*arguments, **options)

    recipe = toy_recipe(toys, tmp_path / "run", epochs=1, batch_size=8, reduction="merge:r=3")
    monkeypatch.setattr(run, "evaluate", fail_at_second)
    with pytest.raises(OSError, match="the disk is gone"):
        retrain(recipe)
    results = retrain(recipe, resume=True)
    assert [row.name for row in results.rows] == ["unreduced", "reduced", "reduced + re-trained"]
    records = [record["name"] for record in read_log(tmp_path / "run/log.jsonl") if record["event"] == "evaluation"]
    assert records == ["unreduced", "reduced", "reduced + re-trained"]
