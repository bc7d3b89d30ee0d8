"""Programs in processes of their own, in which PyTorch, timm and accelerate are imported and nothing of ours is.

Importing these takes six seconds of a processor; a process that is forked from one that has done so needs none. Tests
of what is imported, and of how Python starts, start it themselves.

Run as a program, this file is the process that forks: it answers each line of JSON with one.
"""

import atexit
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import types
import warnings
import weakref
from functools import cache
from pathlib import Path

import torch


class Fresh:
    """A running program that leads a session of its own.

    arguments: its ``sys.argv[1:]``. environment: added to that of this process. threads: of PyTorch, as many as here
    if None. quiet: without warnings. returncode: None while it runs; minus the signal's number if one ended it.
    """

    def __init__(self, code, *arguments, environment=(), threads=None, quiet=False):
        self.returncode, self.folder = None, Path(tempfile.mkdtemp())
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        self.pid = ask(
            code=code,
            arguments=[str(argument) for argument in arguments],
            environment=os.environ | dict(environment),
            threads=threads or torch.get_num_threads(),
            quiet=quiet,
            place=os.getcwd(),
            output=str(self.folder),
        )

    stdout = property(lambda self: (self.folder / "stdout").read_text())
    stderr = property(lambda self: (self.folder / "stderr").read_text())

    def poll(self):
        if self.returncode is None:
            self.returncode = ask(ended=self.pid)
        return self.returncode

    def wait(self, timeout=240):
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                os.killpg(self.pid, signal.SIGKILL)
                raise TimeoutError(f"still running after {timeout} s\n{self.stderr}")
            time.sleep(0.02)
        return self.returncode


def run(code, *arguments, **options):
    """What a program prints that ends well."""
    process = Fresh(code, *arguments, **options)
    assert process.wait() == 0, process.stderr[-3000:]
    return process.stdout


@cache
def forking():
    process = subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},  # a process that forks must have no other threads
    )
    atexit.register(process.communicate)
    return process


def ask(**wish):
    process = forking()
    process.stdin.write(json.dumps(wish) + "\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())


def serve():
    """Answer until the last line; in a process that was forked for a program, return that wish."""
    running = set()
    for line in sys.stdin:
        wish = json.loads(line)
        if "ended" in wish:
            process, status = os.waitpid(wish["ended"], os.WNOHANG)
            running.discard(process)
            answer = os.waitstatus_to_exitcode(status) if process else None
        elif (answer := os.fork()) == 0:
            return wish
        else:
            running.add(answer)
        print(json.dumps(answer), flush=True)
    for process in running:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process, signal.SIGKILL)
    return None


def become(wish):
    """Make a forked process one that looks as if Python had been started for the program."""
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in enumerate(("stdout", "stderr"), start=1):
        os.dup2(os.open(os.path.join(wish["output"], name), os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600), number)
    os.environ.clear()
    os.environ.update(wish["environment"])
    os.chdir(wish["place"])
    sys.argv = ["-c", *wish["arguments"]]
    sys.modules["__main__"] = types.ModuleType("__main__")
    torch.set_num_threads(wish["threads"])
    if wish["quiet"]:
        warnings.simplefilter("ignore")
    exec(compile(wish["code"], "<string>", "exec"), vars(sys.modules["__main__"]))


if __name__ == "__main__":
    import accelerate  # noqa: F401
    import timm  # noqa: F401

    assert "rmeeto" not in sys.modules
    wanted = serve()
    if wanted is not None:
        become(wanted)
