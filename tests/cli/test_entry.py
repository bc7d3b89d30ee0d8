"""The command as a whole: fast, one panel per mistake, no traceback, clean stdout."""

import json
import os
import signal
import subprocess
import sys
import time
import warnings

import pytest
import typer
from typer.testing import CliRunner

from rmeeto.cli.app import Verbs
from rmeeto.errors import ConfigError, RmeetoWarning
from rmeeto.training.interruption import Interrupted

VERBS = (
    "models",
    "flops",
    "show",
    "predict",
    "eval",
    "retrain",
    "tune",
    "bench",
    "table",
    "plan",
    "export",
    "data",
    "demo",
    "doctor",
)


def run(*arguments):
    return subprocess.run([sys.executable, "-m", "rmeeto", *arguments], capture_output=True, text=True, check=False)


def test_help_imports_no_heavy_package():
    code = "import sys; from rmeeto.cli import app; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "numpy", "timm", "PIL", "matplotlib"} & set(loaded)


def test_help_names_every_verb_within_a_second():
    seconds = []
    while len(seconds) < 10 and min(seconds, default=1) >= 1:  # others may be using the machine: until it is once so
        start = time.perf_counter()
        result = run("--help")
        seconds.append(time.perf_counter() - start)
    assert result.returncode == 0
    assert all(verb in result.stdout for verb in VERBS)
    assert min(seconds) < 1


def test_flops_needs_no_timm():
    code = (
        "import sys, contextlib, io; from rmeeto.cli import app\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit): app(['flops', 'vim_base'])\n"
        "print('timm' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("flops", "vim_smal"), ("vim_smal", "vim_small")),
        (("flops", "vim_tiny", "--reduce", "merg:r=5"), ("merg", "merge")),
        (("flops", "vim_tiny", "--reduce", "merge:r=500"), ("500", "r ≤ 98")),
        (("flops", "vim_tiny", "--reduce", "merge:r=-1"), ("-1", "zero or more")),
        (("flops", "vim_tiny", "--reduce", "merge:feature=C,r=5"), ("feature", "features")),
    ],
)
def test_a_mistake_is_one_panel_on_stderr(rmeeto_cli, arguments, words):
    result = rmeeto_cli(*arguments, code=2)
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert all(word in result.stderr for word in ("why", "fix", *words))


def test_a_mistake_in_a_process_of_its_own():
    result = run("flops", "vim_smal", "--json")
    assert (result.returncode, result.stdout) == (2, "")
    assert "Traceback" not in result.stderr


def command_that(raises):
    app = typer.Typer(cls=Verbs)

    @app.callback()
    def root():
        pass

    @app.command()
    def go():
        raises()

    return CliRunner().invoke(app, ["go"])


def throw(error):
    def raises():
        raise error

    return raises


def test_exit_codes():
    assert command_that(throw(ConfigError("a", why="b"))).exit_code == 2
    assert command_that(throw(KeyboardInterrupt())).exit_code == 130
    assert command_that(throw(Interrupted("run", why="interrupted"))).exit_code == 130
    assert command_that(throw(ZeroDivisionError())).exit_code == 1


def test_an_interruption_says_so_in_one_line():
    assert command_that(throw(KeyboardInterrupt())).stderr.split() == ["interrupted"]


def test_brackets_in_messages_are_not_markup():
    error = ConfigError("use [bold]a/b[/]", given="[/x]", why="[red]", fix="[1, 2]")
    shown = command_that(throw(error)).stderr
    assert all(text in shown for text in ("[bold]a/b[/]", "[/x]", "[red]", "[1, 2]"))


def test_our_warnings_are_one_line_without_a_place():
    def warn():
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("head replaced", RmeetoWarning, stacklevel=1)

    result = command_that(warn)
    assert result.stdout == ""
    assert result.stderr.split("\n")[:-1] == ["note  head replaced"]


def test_ctrl_c_ends_a_running_verb_with_130(model_folder):
    arguments = ("bench", model_folder, "--seconds", "600", "--rounds", "1000000", "--batch", "1")
    child = subprocess.Popen(
        [sys.executable, "-u", "-c", INTERRUPTIBLE, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout.readline() == "started\n"
    os.kill(child.pid, signal.SIGINT)
    _, errors = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "interrupted" in errors
    assert "Traceback" not in errors


# says when the first timing is done, so that the signal arrives in the middle of the work
INTERRUPTIBLE = """
import sys
from rmeeto.speed import timing
from rmeeto.cli import main
real = timing.Stopwatch.seconds
def seconds(self, work):
    taken = real(self, work)
    print("started", flush=True)
    return taken
timing.Stopwatch.seconds = seconds
sys.argv[0] = "rmeeto"
main()
"""


def test_doctor_json_is_one_object(rmeeto_json):
    found = rmeeto_json("doctor")
    assert found["healthy"] is True
    assert json.dumps(found)
