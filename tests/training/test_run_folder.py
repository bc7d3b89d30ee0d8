"""What a run's folder survives, and what is said about it: refusals, leftovers, damage, lost states, bad weights."""

import errno
import json
import os
import shutil
import signal
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

import rmeeto.training.run as run_module
from faulty_disk import FaultyDisk, in_use
from rmeeto import create_model
from rmeeto.errors import CheckpointError, ConfigError, DataError, RmeetoWarning, RunError
from rmeeto.evaluation.results import load_results
from rmeeto.files import durable
from rmeeto.recipe import parse_recipe
from rmeeto.training import retrain, train
from rmeeto.training.interruption import Interrupted
from rmeeto.training.run_folder import RunFolder
from rmeeto.training.runlog import RunLog, read_log
from toys import Recorder, make_folder, toy_recipe


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("toys") / "toys", train=8, val=2)


@pytest.fixture(scope="module")
def whole(toys, tmp_path_factory):
    """A complete run of 2 epochs of 3 steps."""
    output = tmp_path_factory.mktemp("whole") / "run"
    retrain(toy_recipe(toys, output))
    return output


@pytest.fixture(scope="module")
def stopped_run(toys, tmp_path_factory):
    """A run that was interrupted after step 4, in its second epoch; it has saved states at 0, 3, 3 and 4."""
    output = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.raises(Interrupted):
        retrain(toy_recipe(toys, output), progress=interrupted_at(4))
    return output


@pytest.fixture
def stopped(stopped_run, tmp_path):
    return Path(shutil.copytree(stopped_run, tmp_path / "run"))


@pytest.fixture
def finished(whole, tmp_path):
    return Path(shutil.copytree(whole, tmp_path / "run"))


def interrupted_at(step):
    return Recorder(at_step=lambda now: signal.raise_signal(signal.SIGINT) if now == step else None)


def weights(folder):
    return create_model(str(folder)).state_dict()


def assert_same_weights(a, b):
    for folder in ("", "best"):
        ours, theirs = weights(a / folder), weights(b / folder)
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def assert_same(a, b):
    assert_same_weights(a, b)
    assert load_results(a).epochs == load_results(b).epochs


def flip(path, at=0.5):
    content = bytearray(path.read_bytes())
    content[int(at * len(content))] ^= 1
    path.write_bytes(content)


def content_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class TestDamagedStates:
    def test_the_run_goes_on_from_the_state_before_and_says_so(self, toys, stopped, whole):
        flip(stopped / "state.pt")
        watcher = Recorder()
        retrain(toy_recipe(toys, stopped), resume=True, progress=watcher)
        assert "resumed after step 3 of 6" in watcher.messages
        assert any("state.pt is damaged" in message for message in watcher.messages)
        said = [record for record in read_log(stopped / "log.jsonl") if record["event"] == "damaged_state"]
        assert [record["step"] for record in said] == [3]
        assert "after step 3 instead of 4" in said[0]["reason"]
        assert_same(stopped, whole)

    def test_a_run_of_an_earlier_version_without_a_manifest_goes_on(self, toys, stopped, whole):
        (stopped / "state.json").unlink()
        (stopped / "state.previous.pt").unlink()
        retrain(toy_recipe(toys, stopped), resume=True)
        assert_same(stopped, whole)


def altered(change):
    """Save a state as an earlier version did, without a manifest, with something else in it."""

    def alter(folder):
        content = torch.load(folder / "state.pt", weights_only=True)
        change(content)
        torch.save(content, folder / "state.pt")

    return alter


def text(folder):
    (folder / "state.pt").write_text("i = 3\n")


def a_list(folder):
    torch.save([1, 2], folder / "state.pt")


class Foreign:
    pass


UNUSABLE = {
    "text": (text, "damaged"),
    "a list": (a_list, "everything missing"),
    "foreign objects": (altered(lambda c: c.update(journal=Foreign())), "something other than tensors"),
    "no optimizer": (altered(lambda c: c.pop("optimizer")), "optimizer missing"),
    "no recipe": (altered(lambda c: c.update(recipe=3)), "cannot read the recipe"),
    "another format": (altered(lambda c: c.update(format=7)), "format 7"),
    "another journal": (altered(lambda c: c["journal"].update(stage=1)), "other entries"),
    "a journal that is none": (altered(lambda c: c.update(journal=[1])), "other entries"),
    "rows of something else": (altered(lambda c: c["journal"].update(before=[{"a": 1}])), "other entries"),
    "a step that is no number": (altered(lambda c: c["journal"].update(step="4")), "step in its journal is '4'"),
    "a step beyond the end": (altered(lambda c: c["journal"].update(step=1000000)), "1000000 steps are done"),
    "a step before the start": (altered(lambda c: c["journal"].update(step=-1)), "-1 steps are done"),
    "other shapes": (altered(lambda c: c["model"].update({"head.bias": torch.zeros(9)})), "head.bias of the model"),
    "other weights": (altered(lambda c: c["model"].pop("head.bias")), "other weights: head.bias"),
    "weights of nothing": (altered(lambda c: c.update(model=3)), "does not fit"),
    "another optimizer": (altered(lambda c: c["optimizer"]["param_groups"].pop()), "does not fit"),
    "an empty optimizer": (altered(lambda c: c.update(optimizer={})), "does not fit"),
    "moments of other shapes": (
        altered(lambda c: c["optimizer"]["state"][0].update(exp_avg=torch.zeros(3, 3))),
        "exp_avg of the optimiser has the shape",
    ),
    "no average": (altered(lambda c: c.update(average=None)), "does not fit"),
}


@pytest.mark.parametrize(("change", "words"), UNUSABLE.values(), ids=UNUSABLE)
def test_a_state_that_does_not_belong_here_is_one_clear_error(toys, tmp_path, averaged, change, words):
    output = Path(shutil.copytree(averaged, tmp_path / "run"))
    (output / "state.json").unlink()
    (output / "state.previous.pt").unlink()
    change(output)
    before = content_of(output)
    with pytest.raises(RunError) as caught:
        retrain(toy_recipe(toys, output, ema_decay=0.9), resume=True)
    assert words in str(caught.value)
    assert "weights_only" not in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 4
    assert caught.value.fix
    assert content_of(output) == before


@pytest.fixture(scope="module")
def averaged(toys, tmp_path_factory):
    output = tmp_path_factory.mktemp("averaged") / "run"
    with pytest.raises(Interrupted):
        retrain(toy_recipe(toys, output, ema_decay=0.9), progress=interrupted_at(1))
    return output


class TestNothingIsBegunAgain:
    @pytest.mark.parametrize("resume", [True, False])
    def test_where_results_were_removed(self, toys, finished, resume):
        (finished / "results.json").unlink()
        before = content_of(finished)
        with pytest.raises(RunError, match="state is lost" if resume else "it holds a run"):
            retrain(toy_recipe(toys, finished), resume=resume)
        assert content_of(finished) == before

    @pytest.mark.parametrize("resume", [True, False])
    def test_where_the_log_shows_steps_and_there_is_no_state(self, toys, stopped, resume):
        for path in stopped.iterdir():
            if path.name not in ("recipe.toml", "log.jsonl"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        before = content_of(stopped)
        with pytest.raises(RunError, match="state is lost" if resume else "it holds a run"):
            retrain(toy_recipe(toys, stopped), resume=resume)
        assert content_of(stopped) == before

    def test_but_what_never_took_a_step_is(self, toys, whole, tmp_path):
        """A kill before the first save: recipe, the log's first line, half a state."""
        output = tmp_path / "run"
        output.mkdir()
        shutil.copy(whole / "recipe.toml", output)
        (output / "log.jsonl").write_text('{"event": "start", "step": 0}\n{"event": "eva')
        (output / ".state.pt.0123abcd").write_bytes(b"half of it")
        retrain(toy_recipe(toys, output))
        assert_same(output, whole)

    def test_and_a_run_that_is_killed_before_its_first_save_in_a_step_goes_on(self, toys, tmp_path):
        """As the cells of a table run: nothing is evaluated, and so nothing was saved, before the first step."""
        killed = tmp_path / "killed"
        kill = Recorder(at_step=lambda now: shutil.copytree(tmp_path / "run", killed) if now == 2 else None)
        recipe = toy_recipe(toys, tmp_path / "run", log_every_steps=1)
        evaluation = train(recipe, progress=kill)
        assert any(record["step"] for record in read_log(killed / "log.jsonl"))
        again = train(recipe.changed(output=str(killed)), resume=True)
        assert again.correct == evaluation.correct
        assert_same_weights(killed, tmp_path / "run")

    def test_and_epochs_of_such_a_run_are_those_of_any_other_but_only_the_last_is_evaluated(
        self, toys, whole, tmp_path
    ):
        recipe = toy_recipe(toys, tmp_path / "run")
        train(recipe)
        ours, theirs = weights(tmp_path / "run"), weights(whole)
        assert recipe.epochs > 1
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
        events = [record["event"] for record in read_log(tmp_path / "run/log.jsonl")]
        assert events.count("evaluation") == 1

    def test_nor_are_foreign_files_beside_it_a_reason_to_refuse(self, toys, whole, tmp_path):
        """A scheduler's output, for instance."""
        output = tmp_path / "run"
        output.mkdir()
        shutil.copy(whole / "recipe.toml", output)
        (output / "log.jsonl").write_text('{"event": "start", "step": 0}\n')
        (output / "slurm.out").write_text("killed")
        retrain(toy_recipe(toys, output), resume=True)
        assert_same(output, whole)
        assert (output / "slurm.out").read_text() == "killed"

    def test_a_recipe_that_is_kept_in_a_folder_is_not_overwritten(self, toys, tmp_path):
        (tmp_path / "recipe.toml").write_text("# mine\n")
        with pytest.raises(RunError, match="in use"):
            retrain(toy_recipe(toys, tmp_path))
        assert content_of(tmp_path) == {"recipe.toml": b"# mine\n"}


class TestLeftovers:
    NAMES = (".state.pt.0123abcd", ".state.json.0123abcd", ".model.safetensors.01234567", "best/.config.json.ffffffff")

    @pytest.mark.parametrize("folder", ["stopped", "finished"])
    def test_of_killed_writes_are_removed(self, toys, folder, request):
        output = request.getfixturevalue(folder)
        for name in self.NAMES:
            (output / name).write_bytes(b"half")
        (output / ".hidden").write_bytes(b"not ours")
        retrain(toy_recipe(toys, output), resume=True)
        assert not any((output / name).exists() for name in self.NAMES)
        assert (output / ".hidden").exists()

    def test_states_that_a_finished_run_left_behind_are_removed(self, toys, finished, stopped_run):
        for name in ("state.pt", "state.previous.pt", "state.json"):
            shutil.copy(stopped_run / name, finished / name)
        expected = load_results(finished)
        assert retrain(toy_recipe(toys, finished), resume=True) == expected
        assert not list(finished.glob("state*"))

    def test_nothing_is_removed_from_a_folder_that_another_run_uses(self, toys, stopped):
        (stopped / self.NAMES[0]).write_bytes(b"being written")
        with RunFolder(str(stopped), resume=True):
            (stopped / self.NAMES[0]).write_bytes(b"being written")
            with pytest.raises(RunError, match=f"process {os.getpid()}"):
                retrain(toy_recipe(toys, stopped), resume=True)
            assert (stopped / self.NAMES[0]).exists()
            assert (stopped / "run.lock").exists()


BAD = {
    "data": ({"data": "/nowhere"}, DataError),
    "weights": ({"weights": "/nowhere.pth"}, CheckpointError),
    "reduction": ({"reduction": "merge:r=100"}, ConfigError),
    "batch": ({"batch_size": 1000}, DataError),
    "policy": ({"auto_augment": "magic"}, ConfigError),
}


class TestRefusalsLeaveNothing:
    @pytest.mark.parametrize(("changes", "kind"), BAD.values(), ids=BAD)
    @pytest.mark.parametrize("resume", [False, True])
    def test_no_folder_no_lock(self, toys, tmp_path, changes, kind, resume):
        with pytest.raises(kind):
            retrain(toy_recipe(**{"data": toys, "output": tmp_path / "new" / "run", **changes}), resume=resume)
        assert list(tmp_path.iterdir()) == []

    def test_a_folder_that_was_there_stays_as_it_was(self, toys, tmp_path):
        (tmp_path / "thesis.tex").write_text("ten years")
        for resume in (False, True):
            with pytest.raises(RunError):
                retrain(toy_recipe(toys, tmp_path), resume=resume)
        assert content_of(tmp_path) == {"thesis.tex": b"ten years"}
        (tmp_path / "empty").mkdir()
        with pytest.raises(DataError):
            retrain(toy_recipe("/nowhere", tmp_path / "empty"))
        assert list((tmp_path / "empty").iterdir()) == []

    def test_a_run_that_could_go_on_keeps_everything(self, toys, stopped):
        before = content_of(stopped)
        with pytest.raises(DataError):
            retrain(toy_recipe("/nowhere", stopped), resume=True)
        assert content_of(stopped) == before

    def test_a_disk_that_fills_up_before_the_recipe_is_written(self, toys, tmp_path):
        for at in range(1, 100):
            with in_use(FaultyDisk(tmp_path, at, "disk full")), pytest.raises(RunError, match="No space left"):
                retrain(toy_recipe(toys, tmp_path / "new" / "run"))
            if (tmp_path / "new" / "run" / "recipe.toml").exists():
                break
            assert list(tmp_path.iterdir()) == []
        assert at > 10

    def test_a_disk_without_room_for_the_lock(self, toys, tmp_path, monkeypatch):
        def full(*_, **__):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(run_module.RunFolder, "_leftovers", lambda self: [])
        monkeypatch.setattr("rmeeto.training.run_folder.FileLock.acquire", full)
        with pytest.raises(RunError, match="No space left"):
            retrain(toy_recipe(toys, tmp_path / "new" / "run"))
        assert list(tmp_path.iterdir()) == []


class TestFinishedRuns:
    def test_one_in_a_folder_that_cannot_be_written_hands_out_its_results(self, toys, finished, monkeypatch):
        def denied(*_, **__):
            raise PermissionError(errno.EACCES, "Permission denied")

        (finished / "run.lock").unlink()
        monkeypatch.setattr("rmeeto.training.run_folder.FileLock.acquire", denied)
        before = content_of(finished)
        assert retrain(toy_recipe(toys, finished), resume=True) == load_results(finished)
        assert content_of(finished) == before
        with pytest.raises(RunError, match="recipe has changed"):
            retrain(toy_recipe(toys, finished, lr=1.0), resume=True)
        with pytest.raises(RunError, match="Permission denied"):
            retrain(toy_recipe(toys, finished))

    @pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
    def test_one_without_write_permission(self, toys, finished):
        (finished / "run.lock").chmod(0o444)
        finished.chmod(0o555)
        try:
            assert retrain(toy_recipe(toys, finished), resume=True) == load_results(finished)
        finally:
            finished.chmod(0o755)

    def damaged_recipes():
        def cut(path):
            path.write_text("".join(path.read_text().splitlines(keepends=True)[:5]))

        def half_a_line(path):
            path.write_bytes(path.read_bytes()[:30])

        def latin(path):
            path.write_bytes(b"# caf\xe9\n" + path.read_bytes())

        def folder(path):
            path.unlink()
            path.mkdir()

        return [cut, half_a_line, latin, folder, Path.unlink]

    @pytest.mark.parametrize("damage", damaged_recipes())
    def test_a_damaged_recipe_is_called_damaged(self, toys, finished, damage):
        recipe = toy_recipe(toys, finished)
        damage(finished / "recipe.toml")
        with pytest.warns(RmeetoWarning, match=r"recipe\.toml is damaged"):
            assert retrain(recipe, resume=True) == load_results(finished)
        with pytest.raises(RunError, match=r"recipe\.toml is damaged.*(.|\n)*results\.json, which is whole") as caught:
            retrain(recipe.changed(lr=1.0), resume=True)
        assert "lr: 0.003 → 1.0" in caught.value.given
        assert "recipe has changed" not in str(caught.value)

    def test_the_way_out_of_a_damaged_recipe_works(self, toys, finished):
        (finished / "recipe.toml").write_text('model = "vim_tiny"\n')
        (finished / "recipe.toml").write_text(json.loads((finished / "results.json").read_text())["recipe"])
        recipe = parse_recipe((finished / "recipe.toml").read_text())
        assert retrain(recipe, resume=True).steps == 6

    def test_damaged_results_say_that_the_model_is_whole(self, toys, finished):
        (finished / "results.json").write_text((finished / "results.json").read_text()[:200])
        with pytest.raises(RunError, match=f"results.json.*(.|\n)*damaged.*(.|\n)*rmeeto eval {finished}"):
            retrain(toy_recipe(toys, finished), resume=True)


class TestRuinedWeights:
    def test_a_learning_rate_that_ruins_the_weights_leaves_the_good_state(self, toys, tmp_path):
        """Three steps an epoch: one that ruins the weights, two that are skipped. The state is that of step 0."""
        output = tmp_path / "run"
        with pytest.raises(RunError):
            retrain(toy_recipe(toys, output, lr=1e30, save_every_seconds=0.0))
        state = torch.load(output / "state.pt", weights_only=True)
        assert state["journal"]["step"] == 0
        assert all(value.abs().max() < 100 for value in state["model"].values())
        assert not (output / "model.safetensors").exists()

    def test_the_very_step_that_ruins_them_is_not_saved(self, toys, tmp_path):
        output = tmp_path / "run"
        with pytest.raises(RunError):
            retrain(toy_recipe(toys, output, lr=1e30, batch_size=24))
        assert torch.load(output / "state.pt", weights_only=True)["journal"]["step"] == 0


class TestLog:
    def test_a_half_written_line_stays_alone(self, tmp_path):
        path = tmp_path / "log.jsonl"
        log = RunLog(path)
        for step in range(4):
            log.write("step", step)
        with path.open("a") as file:
            file.write('{"event": "st')
        log.write("resume", 1, evaluations=0)
        log.write("step", 2)
        kept = [(record["event"], record["step"]) for record in read_log(path)]
        assert kept == [("step", 0), ("step", 1), ("resume", 1), ("step", 2)]

    def test_line_separators_within_names_do_not_end_a_line(self, tmp_path):
        name = "a\u2028b\u2029c\x85d\x0b\x0c\x1c.png"
        RunLog(tmp_path / "log.jsonl").write("unreadable_image", 3, name=name)
        assert read_log(tmp_path / "log.jsonl") == [{"event": "unreadable_image", "step": 3, "name": name}]

    def test_damaged_lines_are_left_out(self, tmp_path):
        path = tmp_path / "log.jsonl"
        RunLog(path).write("step", 1)
        with path.open("ab") as file:
            file.write(b'\xff\xfe\n\0\0\0\0\n3\n[]\nnull\n{"event": "step"}\n{"step": 2}\n' + b"[" * 100000 + b"\n")
        RunLog(path).write("step", 2)
        assert [record["step"] for record in read_log(path)] == [1, 2]

    @pytest.mark.parametrize("written", ["nothing", "half", "all"])
    @pytest.mark.parametrize("then", ["sync", "write"])
    def test_a_record_that_the_disk_refused_once_is_there_once(self, tmp_path, monkeypatch, written, then):
        path, append = tmp_path / "log.jsonl", durable.append
        log = RunLog(path)
        log.write("step", 1)

        def fail(path, data):
            append(path, data[: {"nothing": 0, "half": len(data) // 2, "all": len(data)}[written]])
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(durable, "append", fail)
        with pytest.raises(RunError, match="the disk refused it"):
            log.write("step", 2)
        monkeypatch.setattr(durable, "append", append)
        if then == "sync":
            log.sync()
        else:
            log.write("step", 3)
        assert [record["step"] for record in read_log(path)] == ([1, 2] if then == "sync" else [1, 2, 3])

    def test_it_is_on_the_disk_before_the_state_is(self, toys, tmp_path, monkeypatch):
        order = []
        monkeypatch.setattr(RunLog, "sync", lambda self: order.append("log"))
        save = run_module.save_state
        monkeypatch.setattr(run_module, "save_state", lambda *args: order.append("state") or save(*args))
        retrain(toy_recipe(toys, tmp_path / "run", epochs=1))
        assert order == ["log", "state"] * 3


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["pipe", "folder"])
@pytest.mark.parametrize(
    "name", ["recipe.toml", "results.json", "state.pt", "state.json", "log.jsonl", "model.safetensors", "run.pid"]
)
def test_what_is_no_file_is_never_waited_for(toys, stopped, whole, name, kind):
    """The run goes on without it, or ends in one clear error."""
    (stopped / name).unlink(missing_ok=True)
    os.mkfifo(stopped / name) if kind == "pipe" else (stopped / name).mkdir()
    message = refusal_of(toy_recipe(toys, stopped))
    if message is None:
        assert_same(stopped, whole)
    else:
        assert str(stopped) in message


def refusal_of(recipe):
    try:
        retrain(recipe, resume=True)
    except RunError as error:
        return str(error)
    return None


def test_a_run_writes_through_one_module(toys, tmp_path, audited):
    """Every call that changes the disk within the folder, of a run that is interrupted, resumed and finished."""
    output = tmp_path / "run"
    with audited(output) as calls:
        with pytest.raises(Interrupted):
            retrain(toy_recipe(toys, output), progress=interrupted_at(2))
        retrain(toy_recipe(toys, output), resume=True)
    assert len(calls) > 50
    assert {place for place in calls if "filelock" not in place} == {"rmeeto/files/durable.py"}


@pytest.fixture
def audited():
    """Watch what Python reports of calls that change files below a folder: the modules that made them."""
    watched = []

    def hook(event, arguments):
        changes = event in ("os.rename", "os.remove", "os.link", "os.mkdir", "os.rmdir", "os.truncate")
        opens = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if watched and (changes or opens) and str(arguments[0]).startswith(str(watched[0][0])):
            frame = sys._getframe(1)
            while "/rmeeto/" not in frame.f_code.co_filename and "/filelock/" not in frame.f_code.co_filename:
                frame = frame.f_back
            place = frame.f_code.co_filename
            watched[0][1].append(place[place.rindex("/rmeeto/") + 1 :] if "/rmeeto/" in place else place)

    sys.addaudithook(hook)  # it cannot be removed again, but it does nothing outside the block

    @contextmanager
    def watch(folder):
        calls = []
        watched.append((folder, calls))
        try:
            yield calls
        finally:
            watched.clear()

    return watch
