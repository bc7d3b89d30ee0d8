"""Paths from users, files that are safe to open, and file names in any encoding."""

from __future__ import annotations

import codecs
import os
import stat
from pathlib import Path
from typing import BinaryIO

from rmeeto.errors import DataError, RmeetoError, RunError

MOST_TEXT = 16 << 20  # bytes; far more than any recipe, config or list of names
AS_BYTES = "rmeeto.as_bytes"  # an error handler for encodings, see `shown`
KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class NotAFile(OSError):
    """The path of a file leads to something else: a pipe, a socket, a device, a folder."""


def given_path(text: str | Path, asked: str, error: type[RmeetoError] = DataError) -> Path:
    """A path given by a user, with ``~`` resolved. It may or may not exist.

    asked: the error's first line. error: the class of error to raise.

    Raises:
        RmeetoError: an empty path, one that no file system can hold, or the home folder of an unknown user.
    """
    try:
        if not str(text):
            raise error(asked, given="an empty path", why="it names nothing", fix="give a path, or . for this folder")
        path = Path(text).expanduser()
        path.exists()  # raises where the name is impossible (a null character, too long) or the folder is closed
    except (ValueError, RuntimeError, OSError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) and problem.strerror else str(problem)
        raise error(asked, given=shown(str(text)[:200]), why=f"no such path is possible ({reason})") from problem
    return path


def open_file(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file to read its bytes. Pipes, sockets and devices are never opened, because they may block.

    Raises:
        NotAFile: it is something else than a regular file. OSError: it cannot be opened.
    """
    check_file(os.stat(path))
    file = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        check_file(os.fstat(file))  # the path may lead to another file by now
        return os.fdopen(file, "rb")
    except BaseException:
        os.close(file)
        raise


def check_file(status: os.stat_result) -> None:
    """Raise :class:`NotAFile` unless a status is that of a regular file."""
    if not stat.S_ISREG(status.st_mode):
        kind = next((name for is_kind, name in KINDS if is_kind(status.st_mode)), "something else")
        raise NotAFile(f"{kind}, not a file")


def check_output(path: str | Path) -> None:
    """Refuse an output file that cannot be written, before the work whose result it will hold.

    Raises:
        RunError: an impossible path, a folder, a device or pipe, or a place in a folder that takes no files.
    """
    asked = f"write {shown(str(path))}"
    target = given_path(path, asked, RunError)
    if target.is_dir():
        raise RunError(asked, why="it is a folder", fix="name a file in it")
    if target.exists() and not target.is_file():  # a file that is written whole would take its place
        raise RunError(asked, why="it is a device or a pipe, not a file", fix="name a file")
    folder = next(one for one in target.absolute().parents if one.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        kind = "no new files may be written there" if folder.is_dir() else "it is not a folder"
        raise RunError(asked, given=shown(str(folder)), why=kind, fix="choose another output")


def read_text(path: str | os.PathLike[str], *, most: int = MOST_TEXT) -> str:
    """A small text file in UTF-8, with or without a byte order mark.

    Raises:
        NotAFile: it is something else than a regular file. OSError: it cannot be opened.
        ValueError: it is not UTF-8, or has more bytes than ``most``.
    """
    with open_file(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"it has more than {most:,} bytes")
    return content.decode("utf-8-sig")


def is_folder(text: str) -> bool:
    """Whether the path is a folder; False also for impossible paths."""
    try:
        return bool(text) and os.path.isdir(os.path.expanduser(text))
    except ValueError:  # a null character
        return False


def shown(name: str) -> str:
    r"""A file's name for display: bytes that are not UTF-8 are written as ``\xff``.

    >>> shown("caf\udce9.jpg")
    'caf\\xe9.jpg'
    """
    return name.encode("utf-8", AS_BYTES).decode("utf-8")


def _as_bytes(error: UnicodeError) -> tuple[str, int]:
    """Replace characters that an encoding lacks by their bytes or their number."""
    assert isinstance(error, UnicodeEncodeError)
    letters = error.object[error.start : error.end]
    return "".join(
        f"\\x{ord(letter) - 0xDC00:02x}"
        if "\udc80" <= letter <= "\udcff"
        else letter.encode("ascii", "backslashreplace").decode()
        for letter in letters
    ), error.end


codecs.register_error(AS_BYTES, _as_bytes)
