"""What the command line says about an exception: a user's mistake, the machine's state, or a defect of rmeeto."""

from __future__ import annotations

import errno
import os
import shlex
import sys
import traceback
from pathlib import Path

from rmeeto.errors import RmeetoError, RunError

DEBUG = "RMEETO_DEBUG"
FAILURE, MISTAKE = 1, 2
PACKAGE = Path(__file__).parents[1]
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "cannot allocate memory")


class Defect(RmeetoError):
    """An exception that is a defect of rmeeto."""

    exit_code = FAILURE


class Exhausted(RunError):
    """The machine has run out of something."""

    exit_code = FAILURE


def wants_traceback() -> bool:
    """Whether the user asked for tracebacks."""
    return os.environ.get(DEBUG, "0") not in ("", "0")


def explain(error: Exception) -> RmeetoError:
    """The error in the form that all errors have, the exception's notes included."""
    explained = error if isinstance(error, RmeetoError) else _foreign(error)
    if explained is not error:
        for note in getattr(error, "__notes__", ()):
            explained.add_note(note)
    return explained


def exit_code(error: RmeetoError) -> int:
    """The error's own exit code, if its class has one."""
    return int(getattr(error, "exit_code", MISTAKE))


def _foreign(error: Exception) -> RmeetoError:
    if isinstance(error, MemoryError) or any(words in str(error).lower() for words in OUT_OF_MEMORY):
        return Exhausted(
            _command(),
            why=f"the machine has run out of memory ({summary(error)})",
            fix="use a smaller --batch (in retrain with a larger --accumulate) or fewer --workers",
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Exhausted(_command(), why=f"the disk is full ({summary(error)})", fix="free some space")
    if isinstance(error, BrokenPipeError):
        return Exhausted(_command(), why="the reader of its output has gone", fix="keep the other end of the pipe open")
    return Defect(
        "this is a defect of rmeeto",
        given=_command(),
        why=summary(error) + place(error),
        fix=f"for the traceback set {DEBUG}=1 and run it again; a report with it, and with what `rmeeto doctor` "
        "says, helps to mend this",
    )


def summary(error: Exception) -> str:
    """Type and message on one line; for an error in a worker process, those of the original error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if lines and " in DataLoader worker process " in lines[0]:
        return f"{lines[-1]} (in a worker process)"
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def place(error: Exception) -> str:
    """The last line of our own sources in the traceback."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_relative_to(PACKAGE):
            return f", at rmeeto/{path.relative_to(PACKAGE).as_posix()}:{frame.lineno}"
    return ""


def _command() -> str:
    return shlex.join(["rmeeto", *sys.argv[1:]])
