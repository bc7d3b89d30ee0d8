"""Files that survive kills, full disks and power cuts: a path always holds the whole old file or the whole new one.

A file is written under a temporary name in the same folder and synced to the disk. Then it is renamed, and the folder
is synced, so that the rename survives a power cut too. The rename is the moment from which the new file counts.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from rmeeto.errors import RunError
from rmeeto.files.paths import open_file

Bytes = bytes | bytearray | memoryview
BUFFER = 1 << 20
# Some network and user-space file systems, and Windows, cannot sync a folder; renames are then as safe as they can be.
CANNOT_SYNC_FOLDERS = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF}


class NewFile:
    """A file that is being written. It hashes its bytes and keeps the first error of writing them.

    A library that writes through it may replace that error by its own: torch goes on to write the end of its archive,
    and then reports that the archive is inconsistent.
    """

    def __init__(self, descriptor: int) -> None:
        self.error: BaseException | None = None
        self.size = 0
        self._descriptor = descriptor
        self._sha256 = hashlib.sha256()
        self._waiting = bytearray()

    @property
    def sha256(self) -> str:
        """SHA-256 of all bytes flushed so far, in hexadecimal digits."""
        return self._sha256.hexdigest()

    def write(self, data: Bytes) -> int:
        """Write bytes; small portions are collected first.

        Raises:
            OSError: the disk refuses them.
        """
        view = memoryview(data).cast("B")
        if len(view) < BUFFER:
            self._waiting += view
            if len(self._waiting) >= BUFFER:
                self.flush()
        else:
            self.flush()
            self._put(view)
        return len(view)

    def flush(self) -> None:
        """Write the collected bytes.

        Raises:
            OSError: the disk refuses it.
        """
        waiting, self._waiting = self._waiting, bytearray()
        self._put(memoryview(waiting))

    def _put(self, view: memoryview) -> None:
        self._sha256.update(view)
        self.size += len(view)
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
        except BaseException as error:
            self.error = self.error or error
            raise


class Prepared:
    """A complete file on the disk under a temporary name. It is removed on exit unless :meth:`place` was called.

    sha256: of its content, in hexadecimal digits. size: in bytes.
    """

    def __init__(self, path: Path, temporary: Path, file: NewFile) -> None:
        self.path, self.sha256, self.size = path, file.sha256, file.size
        self._temporary: Path | None = temporary

    def place(self) -> None:
        """Rename it into its place.

        Raises:
            RunError: the disk refuses it.
        """
        assert self._temporary is not None, "it is in its place already"
        rename(self._temporary, self.path)
        self._temporary = None

    def __enter__(self) -> Prepared:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._temporary is not None:
            take_away(self._temporary)


def prepare(path: Path, write: Callable[[NewFile], object]) -> Prepared:
    """Call ``write`` with a new file beside ``path``, and sync what it wrote to the disk.

    Raises:
        RunError: the disk is full or the folder not writable; the old file, if any, is untouched.
    """
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}")
    try:
        make_folder(path.parent)
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
            return Prepared(path, temporary, _written(descriptor, write))
        except BaseException:
            take_away(temporary)
            raise
    except OSError as error:
        raise RunError(
            f"save {path}",
            why=f"the disk refused it ({error})",
            fix="free some space or choose another output folder; what was there before is untouched",
        ) from error


def _written(descriptor: int, write: Callable[[NewFile], object]) -> NewFile:
    file = NewFile(descriptor)
    try:
        try:
            write(file)
            file.flush()
        except BaseException as error:
            if file.error is None or file.error is error:
                raise
            raise file.error from error
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return file


def write_file(path: Path, write: Callable[[NewFile], object]) -> str:
    """Call ``write`` with a new file and put the result at ``path``; its SHA-256.

    Raises:
        RunError: the disk refuses it; the old file or the new one is there, whole.
    """
    with prepare(path, write) as prepared:
        prepared.place()
    return prepared.sha256


def write_bytes(path: Path, content: Bytes) -> str:
    """Put bytes at ``path``; their SHA-256. Raises as :func:`write_file`."""
    return write_file(path, lambda file: file.write(content))


def write_text(path: Path, text: str) -> str:
    """Put UTF-8 text at ``path``; its SHA-256. Raises as :func:`write_file`."""
    return write_bytes(path, text.encode("utf-8"))


def append(path: Path, data: bytes) -> None:
    """Add bytes to the end of a file, which is made if it is missing. They are not synced: see :func:`sync`.

    Raises:
        OSError: the disk refuses them; a part of them may have been written.
    """
    kind = getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)  # a pipe of that name is refused, not waited for
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | kind, 0o666)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
    finally:
        os.close(descriptor)


def sync(path: Path) -> None:
    """Wait until what was appended to a file is on the disk.

    Raises:
        OSError: the disk refuses it.
    """
    descriptor = os.open(path, os.O_WRONLY | getattr(os, "O_NONBLOCK", 0))
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def rename(old: Path, new: Path) -> None:
    """Rename within a folder; a file that has the new name is replaced.

    Raises:
        RunError: the disk refuses it. Both files are whole; the new name holds one of them.
    """
    try:
        os.replace(old, new)
        sync_folder(new.parent)
    except OSError as error:
        raise RunError(
            f"save {new}",
            why=f"the disk refused to rename {old.name} ({error})",
            fix="check the disk; the old file or the new one is in place, whole",
        ) from error


def remove(*paths: Path) -> None:
    """Remove files of one folder, in this order; one that is missing is no error.

    Raises:
        RunError: the disk refuses it.
    """
    try:
        for path in paths:
            with suppress(FileNotFoundError):
                os.unlink(path)
        for folder in {path.parent for path in paths}:
            sync_folder(folder)
    except OSError as error:
        raise RunError(f"remove {path}", why=f"the disk refused it ({error})", fix="remove it by hand") from error


def take_away(*paths: Path) -> None:
    """Remove files and empty folders, in this order; what cannot be removed stays."""
    for path in paths:
        with suppress(OSError):
            if path.is_dir():
                os.rmdir(path)
            else:
                os.unlink(path)


def make_folder(path: Path) -> list[Path]:
    """Make a folder and its missing parents; the new ones, outermost first.

    Raises:
        OSError: it cannot be made.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.exists()][::-1]
    made: list[Path] = []
    try:
        for folder in missing:
            os.mkdir(folder)
            made.append(folder)
            sync_folder(folder.parent)
    except FileExistsError:  # another process made it meanwhile
        return made + make_folder(path)
    except OSError:
        take_away(*reversed(made))
        raise
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    return made


def sync_folder(path: Path) -> None:
    """Wait until the names in a folder are on the disk, where its file system can do that.

    Raises:
        OSError: the disk refuses it.
    """
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in CANNOT_SYNC_FOLDERS:
            raise
    finally:
        os.close(descriptor)


def leftovers(folder: Path, names: Iterable[str]) -> list[Path]:
    """Temporary files that killed writes of these names have left in a folder."""
    ours = re.compile(rf"\.({'|'.join(map(re.escape, names))})\.[0-9a-f]{{8}}")
    return [path for path in folder.iterdir() if ours.fullmatch(path.name)] if folder.is_dir() else []


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    with open_file(path) as file:
        while portion := file.read(BUFFER):
            digest.update(portion)
    return digest.hexdigest()
