"""A disk that fails, fills up or loses power at one chosen call, and keeps only what was synced to it.

It stands in for the ``os`` module in ``rmeeto.files.durable``, through which everything is written that must not be
lost.
"""

import errno
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

from rmeeto.files import durable

CALLS = ("open", "write", "fsync", "replace", "unlink", "mkdir", "rmdir")
ERRORS = ("error", "error after the fact", "disk full")
STOPS = ("kill", "power cut, unsynced names lost", "power cut, unsynced names kept")
FAULTS = ERRORS + STOPS
NEEDS_ROOM = {"open", "write", "replace", "mkdir"}


class Killed(BaseException):
    """The process is gone: no handler of ordinary errors may catch it, and nothing is written any more."""


class FaultyDisk:
    """Forwards to ``os``, counts the calls that change the disk, and fails at call ``at`` (from 1) in one way.

    A failing write has written half of its bytes. ``calls`` are the names of all calls so far. Nothing is really
    synced, which would take time. Only what is directly in ``folder`` takes part in power cuts; what is in it at the
    start is on the disk.
    """

    def __init__(self, folder, at=0, fault="error", ignore=()):
        self.folder, self.at, self.fault, self.ignore = Path(folder), at, fault, ignore
        self.calls, self.dead, self.full = [], False, False
        self._synced = {path.stat().st_ino: path.read_bytes() for path in self._files()}  # by inode
        self._names = {path.name: path.read_bytes() for path in self._files()}  # of the last sync of the folder
        self._opened = {}

    def __getattr__(self, name):
        return getattr(os, name)

    def _files(self):
        return [path for path in self.folder.iterdir() if path.is_file()] if self.folder.is_dir() else []

    def _call(self, name, work, half=lambda: None):
        if self.dead:
            raise Killed
        self.calls.append(name)
        if self.full and name in NEEDS_ROOM:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if len(self.calls) != self.at:
            return work()
        if self.fault == "error after the fact":
            work()
        else:
            half()
        if self.fault in ERRORS:
            self.full = self.fault == "disk full"
            number = errno.ENOSPC if self.full else errno.EIO
            raise OSError(number, os.strerror(number))
        self.dead = True
        self._cut_power()
        raise Killed

    def _cut_power(self):
        if self.fault == "kill":
            return
        kept = self._names
        if self.fault.endswith("kept"):
            kept = {path.name: self._synced.get(path.stat().st_ino, b"") for path in self._files()}
        for path in self._files():
            path.unlink()
        for name, content in kept.items():
            (self.folder / name).write_bytes(content)

    def open(self, path, flags, mode=0o777):
        if not flags & os.O_CREAT:
            descriptor = os.open(path, flags, mode)
        else:
            new = not os.path.lexists(path)
            descriptor = self._call("open", lambda: os.open(path, flags, mode))
            if new:
                self._synced[os.fstat(descriptor).st_ino] = b""
        self._opened[descriptor] = Path(path)
        return descriptor

    def write(self, descriptor, data):
        half = data[: len(data) // 2]
        return self._call("write", lambda: os.write(descriptor, data), lambda: os.write(descriptor, half))

    def fsync(self, descriptor):
        self._call("fsync", lambda: self._sync(descriptor))

    def _sync(self, descriptor):
        path = self._opened[descriptor]
        kind = "folder" if path.is_dir() else "file"
        if kind in self.ignore:
            return
        if kind == "file":
            self._synced[os.fstat(descriptor).st_ino] = path.read_bytes()
        elif path == self.folder:
            self._names = {each.name: self._synced.get(each.stat().st_ino, b"") for each in self._files()}

    def replace(self, old, new):
        self._call("replace", lambda: os.replace(old, new))

    def unlink(self, path):
        if os.path.lexists(path):
            self._call("unlink", lambda: os.unlink(path))
        else:
            os.unlink(path)

    def mkdir(self, path):
        self._call("mkdir", lambda: os.mkdir(path))

    def rmdir(self, path):
        self._call("rmdir", lambda: os.rmdir(path))


@contextmanager
def in_use(disk, portions=512):
    """Everything durable is written to this disk, in portions of so many bytes. A kill ends the block."""
    before = durable.os, durable.BUFFER
    durable.os, durable.BUFFER = disk, portions
    try:
        yield disk
    except Killed:
        pass
    finally:
        durable.os, durable.BUFFER = before


def every_fault(prepare, act, check, faults=FAULTS, **options):
    """Let every call of ``act`` fail in every way, one after the other; the number of faults tried.

    prepare: makes a new folder, and returns it. act: the work, given the folder. check: given the folder, the fault and
    the error that ``act`` raised, if any; it runs on a sound disk.
    """
    folder = prepare()
    with in_use(FaultyDisk(folder)) as disk:
        act(folder)
    shutil.rmtree(folder)
    places = len(disk.calls)
    assert places > 0
    for fault in faults:
        for at in range(1, places + 1):
            folder = prepare()
            failed = None
            with in_use(FaultyDisk(folder, at, fault, **options)):
                try:
                    act(folder)
                except Exception as error:
                    failed = error
            check(folder, f"{fault}, call {at}: {disk.calls[at - 1]}", failed)
            shutil.rmtree(folder)
    return places * len(faults)
