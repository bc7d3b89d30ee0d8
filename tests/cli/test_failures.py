"""Every failure ends within seconds with one panel: no traceback, the state saved, no process left."""

import json
import multiprocessing
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from rmeeto.training import retrain
from toys import Recorder, make_folder, toy_recipe

SECONDS = 10  # five on a quiet machine; what this file guards against took for ever
HANGS = 40
EPOCH = 3  # steps
SOME = -1  # a step that depends on how far the workers have read ahead

# Every process begins with this: now() notes when the fault was injected, at() calls something at a training step.
COMMON = """
import os, signal, sys, time
from pathlib import Path
from rmeeto.training.step import Stepper
def now():
    Path(output, "injected").write_text(str(time.time()))
def fail(error):
    now()
    raise error
def at(wanted, act):
    real = Stepper.step
    def step(self, number, *rest, **more):
        if number == wanted:
            act()
        return real(self, number, *rest, **more)
    Stepper.step = step
def in_workers(act):
    from rmeeto.data.reading import OneView
    import torch.utils.data
    real = OneView.__call__
    def call(self, image):
        Path(output, f"call{os.getpid()}-{time.monotonic_ns()}").touch()
        if torch.utils.data.get_worker_info() is not None and Path(output, "go").exists():
            act()
        return real(self, image)
    OneView.__call__ = call
    def start():
        Path(output, "go").touch()
        until = time.monotonic() + 2  # a worker's end finds this process here, and not while it changes weights
        while time.monotonic() < until and not Path(output, "injected").exists():
            time.sleep(0.01)
        time.sleep(0.2)
    at(2, start)
"""


class Nursery:
    """Starts commands in processes of their own, quickly."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("nursery.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore:.*multi-threaded:DeprecationWarning"},
        )

    def start(self, arguments, output, inject):
        wanted = {"arguments": [str(argument) for argument in arguments], "output": str(output), "inject": inject}
        self.process.stdin.write(json.dumps(wanted) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def exit_code(self, process):
        if not select.select([self.process.stdout], [], [], HANGS)[0]:
            os.killpg(process, signal.SIGKILL)
        return int(self.process.stdout.readline())


@pytest.fixture(scope="module")
def nursery():
    nursery = Nursery()
    yield nursery
    nursery.process.communicate(timeout=20)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("pictures") / "toys", train=8, val=2)


@pytest.fixture
def run(nursery, pictures, tmp_path):
    """Retrain with a fault injected; what came of it."""

    def run(inject, *arguments, during=lambda process: None, **changes):
        recipe = toy_recipe(pictures, tmp_path / "run", **{"workers": 2, "epochs": 8, "log_every_steps": 1, **changes})
        (tmp_path / "recipe.toml").write_text(recipe.to_toml())
        return Outcome(nursery, ("retrain", "--recipe", tmp_path / "recipe.toml", *arguments), tmp_path, inject, during)

    return run


class Outcome:
    """How a process ended, and what it left behind."""

    def __init__(self, nursery, arguments, output, inject, during):
        process = self.process = nursery.start(arguments, output, COMMON + inject)
        during(process)
        self.code = nursery.exit_code(process)
        ended = time.time()
        self.stderr, self.stdout = ((output / name).read_text() for name in ("stderr", "stdout"))
        self.left = processes_of(process)
        injected = output / "injected"
        assert injected.exists(), self.stderr
        self.seconds = ended - float(injected.read_text())
        self.run = output / "run"

    def left_after(self, seconds):
        """The processes that remain after some time at most."""
        deadline = time.monotonic() + seconds
        while (left := processes_of(self.process)) and time.monotonic() < deadline:
            time.sleep(0.05)
        return left

    @property
    def saved_step(self):
        return torch.load(self.run / "state.pt", weights_only=True)["journal"]["step"]

    def assert_clean(self, code, *words, panels=1):
        """One message with these words, in time, and no process left."""
        assert self.left == []
        assert self.code == code, self.stderr
        assert self.seconds < SECONDS
        assert "Traceback" not in self.stderr
        assert self.stderr.count("╭─ error") == panels, self.stderr
        said = " ".join(self.stderr.replace("│", " ").split())
        for word in words:
            assert word in said, said


def processes_of(session):
    """The living processes of a session."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, leader = stat.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(leader) == session and state != "Z":
            found.append(int(stat.parent.name))
    return found


SAVED = "is saved in"
DEFECT = ("this is a defect of rmeeto", "RMEETO_DEBUG=1")
EXCEPTIONS = {
    "in the loop": ("at(4, lambda: fail(KeyError('place')))", 4, (*DEFECT, "KeyError: 'place'", "rmeeto/training/")),
    "in a worker": ("in_workers(lambda: fail(KeyError('pixel')))", SOME, (*DEFECT, "KeyError: 'pixel' (in a worker")),
    "in an evaluation": (
        "import rmeeto.evaluation.accuracy as e; real = e._score; done = []\n"
        "def score(*a):\n    done.append(1)\n    return fail(ZeroDivisionError('division by zero')) if len(done) > 1 "
        "else real(*a)\ne._score = score",
        EPOCH,
        (*DEFECT, "ZeroDivisionError: division by zero"),
    ),
    "in the callback of progress": (
        "from rmeeto.cli.progress import LineTask; real = LineTask.advance\n"
        "def advance(self, n=1, **fields):\n    if 'left' in fields: fail(ValueError('no bar'))\n    real(self, n)\n"
        "LineTask.advance = advance",
        1,
        (*DEFECT, "ValueError: no bar"),
    ),
    "out of memory": (
        'at(4, lambda: fail(RuntimeError("DefaultCPUAllocator: can\'t allocate memory: you tried 9 bytes")))',
        4,
        ("run out of memory", "smaller --batch"),
    ),
    "out of memory in a worker": ("in_workers(lambda: fail(MemoryError()))", SOME, ("run out of memory", "--workers")),
    "a worker is killed": (
        "in_workers(lambda: (now(), os.kill(os.getpid(), signal.SIGKILL)))",
        SOME,
        ("was killed by the signal Killed", "run out of memory"),
    ),
    "a worker is stuck": (
        "import rmeeto.data.workers; rmeeto.data.workers.STUCK_SECONDS = 1.0\n"
        "in_workers(lambda: (now(), time.sleep(1000)))",
        SOME,
        ("no images came for 1 s", "stuck"),
    ),
    "a worker is stuck in a library that lets no thread run": (
        "import ctypes; at(2, lambda: (time.sleep(0.5), fail(OSError('odd'))))\n"
        "in_workers(lambda: ctypes.PyDLL(None).sleep(1000))",
        2,
        (*DEFECT, "OSError: odd"),
    ),
    "a full disk while logging": (
        "at(4, lambda: fail(OSError(28, 'No space left on device')))",
        4,
        ("the disk is full", "free some space"),
    ),
    "without a message": ("at(4, lambda: fail(AssertionError()))", 4, (*DEFECT, "AssertionError")),
}


LOST_WORKER = ("a worker is killed", "a worker is stuck")


@pytest.mark.parametrize("kind", EXCEPTIONS)
def test_an_exception_ends_a_run_cleanly(run, kind):
    inject, step, words = EXCEPTIONS[kind]
    outcome = run(inject)
    saved = outcome.saved_step
    outcome.assert_clean(
        2 if kind in LOST_WORKER else 1, f"state after step {saved} of 24 is saved", "--resume", *words
    )
    assert step in (SOME, saved)


def test_weights_that_are_changed_but_not_counted_are_not_saved(run):
    outcome = run(
        "from torch.optim import AdamW; real = AdamW.step; done = []\n"
        "def step(self, *a):\n    done.append(1); real(self, *a)\n    if len(done) == 3: fail(KeyError('half'))\n"
        "AdamW.step = step"
    )
    outcome.assert_clean(1, "state after step 0 of 24 is saved", "--resume", *DEFECT)
    assert outcome.saved_step == 0


def test_weights_that_ruin_the_loss_do_not_replace_good_ones(run):
    outcome = run("now()", lr=1e30, min_lr=1e30, warmup_steps=0)
    outcome.assert_clean(2, "logits are not finite", "state after step 0 of 24 is saved", "try a smaller lr")
    assert outcome.saved_step == 0


CTRL_C = "lambda: (now(), os.kill(os.getpid(), signal.SIGINT), time.sleep(0.1))"
PHASES = {
    "while the model is built": (
        f"import rmeeto.training.run as r; r.build_model = {CTRL_C[:6]} *a{CTRL_C[6:]}",
        False,
    ),
    "in a step": (f"at(4, {CTRL_C})", True),
    "in an evaluation": (f"import rmeeto.evaluation.accuracy as e; e._score = {CTRL_C[:6]} *a{CTRL_C[6:]}", False),
    "while results are put together": (
        f"import rmeeto.training.run as r; r.add_speeds = {CTRL_C[:6]} *a{CTRL_C[6:]}",
        True,
    ),
    "while a worker is stuck": (
        f"at(2, lambda: (time.sleep(0.5), ({CTRL_C})()))\nin_workers(lambda: time.sleep(1000))",
        True,
    ),
}


@pytest.mark.parametrize("phase", PHASES)
def test_ctrl_c_ends_a_run_cleanly(run, phase):
    inject, saved = PHASES[phase]
    outcome = run(inject, epochs=2)
    assert (outcome.run / "state.pt").exists() == saved
    if "interrupted" in outcome.stderr.splitlines():  # before the run had anything that could be resumed
        assert not saved
        outcome.assert_clean(130, panels=0)
    else:
        outcome.assert_clean(130, "it was interrupted", "--resume")


def test_ctrl_c_stops_in_the_middle_of_a_long_step(run):
    outcome = run(
        "from rmeeto.training.objective import Objective; real = Objective.__call__; done = []\n"
        "def call(self, *a):\n    done.append(1)\n    if len(done) == 4: now(); os.kill(os.getpid(), signal.SIGINT)\n"
        "    [time.sleep(0.1) for _ in range(300 if len(done) == 4 else 0)]\n    return real(self, *a)\n"
        "Objective.__call__ = call"
    )
    outcome.assert_clean(130, "it was interrupted", "--resume")
    assert outcome.saved_step == 3


def test_workers_do_not_outlive_a_main_process_that_is_killed(run):
    outcome = run(
        "in_workers(lambda: time.sleep(1000))\nat(2, lambda: (now(), time.sleep(0.5), os.kill(os.getpid(), 9)))"
    )
    assert outcome.code == -signal.SIGKILL
    assert outcome.left_after(SECONDS) == []


def test_a_reader_that_has_gone_ends_a_command_with_one_message(run):
    outcome = run(
        "import rmeeto.cli.retrain as c\n"
        "def closed(*a):\n    now(); r, w = os.pipe(); os.close(r); os.dup2(w, 1); print('x' * 9, flush=True)\n"
        "c.print_results = closed",
        epochs=1,
    )
    outcome.assert_clean(1, "the reader of its output has gone")
    assert (outcome.run / "results.json").exists()


def test_progress_that_nobody_can_read_any_more_ends_a_run_with_its_state_saved(run):
    outcome = run(
        "def closed():\n    now(); r, w = os.pipe(); os.dup2(w, 2); os.close(r); os.close(w)\nat(4, closed)", epochs=2
    )
    assert (outcome.code, outcome.left) == (1, [])
    assert outcome.saved_step >= 4


def test_the_traceback_is_shown_to_those_who_ask_for_it(run):
    outcome = run("os.environ['RMEETO_DEBUG'] = '1'\nat(4, lambda: fail(KeyError('place')))")
    assert outcome.code == 1
    assert "Traceback (most recent call last)" in outcome.stderr
    assert "KeyError: 'place'" in outcome.stderr
    assert "this is a defect of rmeeto" in outcome.stderr


VERBS = {
    "eval": "import rmeeto.evaluation.accuracy as m; m._score = lambda *a: fail(KeyError('here'))",
    "predict": "import rmeeto.evaluation.prediction as m; m._guess = lambda *a: fail(KeyError('here'))",
    "show": "import rmeeto.viz as m; m.merged_groups = lambda *a: fail(KeyError('here'))",
    "bench": "import rmeeto.speed.timing as m; m.Stopwatch.seconds = lambda *a: fail(KeyError('here'))",
    "tune": "import rmeeto.tuning.calibration as m; m.Calibration.divergence = lambda *a: fail(KeyError('here'))",
    "demo": "import rmeeto.demo.run as m; m.measure_step = lambda *a: fail(KeyError('here'))",
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_defect_ends_every_command_with_one_message(nursery, pictures, model_folder, tmp_path, verb):
    image = pictures / "val" / "red" / "0.png"
    more = {
        "eval": (model_folder, "--data", pictures),
        "predict": (model_folder, image),
        "show": (model_folder, image, "-o", tmp_path / "groups.png"),
        "bench": (model_folder, "--rounds", 5, "--no-memory"),
        "tune": (model_folder, "--data", pictures, "--fewer", 1.1),
        "demo": ("-o", tmp_path / "demo"),
    }
    outcome = Outcome(nursery, (verb, *more.get(verb, ())), tmp_path, VERBS[verb], lambda process: None)
    outcome.assert_clean(1, *DEFECT, "KeyError: 'here'")


def test_in_python_an_exception_stays_what_it_is(pictures, tmp_path):
    error, others = ValueError("no bar"), multiprocessing.active_children()  # of earlier tests

    def act(step):
        if step == 2:
            raise error

    with pytest.raises(ValueError, match="no bar") as raised:
        retrain(toy_recipe(pictures, tmp_path / "run", workers=2), progress=Recorder(at_step=act))
    assert raised.value is error
    assert "resume=True" in error.__notes__[0]
    assert set(multiprocessing.active_children()) <= set(others)
