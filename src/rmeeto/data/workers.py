"""The processes that read images. They ignore Ctrl-C, and end when the main process tells them to or has ended."""

from __future__ import annotations

import atexit
import multiprocessing.util  # before the hook below, because hooks at the exit run in the opposite order
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, TypeVar
from weakref import WeakSet

import torch
from torch.utils.data import DataLoader, Dataset

from rmeeto.errors import RunError

T = TypeVar("T")

STUCK_SECONDS = 600.0  # without anything from the workers; a slow disk gives something, and a dead one never
GRACE_SECONDS = 0.5  # for workers to end by themselves, when they have finished the batch that they are at
LAST_RESORT_SECONDS = 1.5
LOST_WORKER = re.compile(
    r"DataLoader worker \(pid.*?(?:killed by signal: (?P<signal>[\w ]+)|exited unexpectedly)", re.S
)
STUCK_WORKER = re.compile(r"DataLoader timed out after (?P<seconds>[\d.]+) seconds")


class Stream(Iterator[T]):
    """What worker processes read. They end at the last item, at an error, and at :meth:`close`.

    A context manager: the workers are gone when its block is left, however that happens.

    Raises (while reading, and for a block in which a worker dies):
        RunError: a worker process was killed or is stuck.
    """

    def __init__(
        self, items: Dataset[Any], workers: int, *, check: Callable[[T], None] | None = None, **options: Any
    ) -> None:
        self._check, self._leash = check, Leash()
        # PyTorch hears of a dead worker by a signal, which only the main thread gets; other threads look every five
        # seconds, unless they are given a time-out
        watched = workers > 0 and threading.current_thread() is threading.main_thread()
        self._loader: DataLoader[Any] = DataLoader(
            items,
            num_workers=workers,
            worker_init_fn=self._leash.worker_start,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),  # drawing the workers' base seed must not move the global one
            timeout=STUCK_SECONDS if watched else 0,
            **options,
        )
        self._iterator: Iterator[T] | None = None
        self._closed = False

    def __next__(self) -> T:
        if self._closed:
            raise StopIteration
        try:
            if self._iterator is None:
                self._iterator = iter(self._loader)
            item = next(self._iterator)
            if self._check is not None:
                self._check(item)
        except BaseException as error:
            self.close()
            if (lost := lost_worker(error)) is not None:
                raise lost from error
            raise
        return item

    def close(self) -> None:
        """End the workers, within two seconds even if they are stuck."""
        self._closed = True
        iterator: Any = self._iterator
        self._iterator = None
        # PyTorch itself ends them only when the last reference to the iterator goes, and a traceback may keep one
        if hasattr(iterator, "_shutdown_workers"):
            with ended_soon(self._leash, iterator._workers):
                iterator._shutdown_workers()
        self._leash.let_go()

    def __enter__(self) -> Stream[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
        if (lost := lost_worker(error)) is not None:
            raise lost from error


class Leash:
    """Ends worker processes at once, even amid a file that they cannot finish.

    The main process lets go by one message that no worker takes out of the pipe, so all of them see it.
    """

    def __init__(self) -> None:
        told, self._tell = multiprocessing.Pipe(duplex=False)
        self.worker_start = WorkerStart(told)  # what a worker does first
        self._let_go = False
        _LEASHES.add(self)

    def let_go(self) -> None:
        """End the workers that still live. Their exit code is 0, so that PyTorch does not take it for a failure."""
        if not self._let_go:
            self._let_go = True
            self._tell.send_bytes(b"end")


_LEASHES: WeakSet[Leash] = WeakSet()


@atexit.register
def _let_go_of_all() -> None:
    """Workers of loaders that were never closed must not keep the main process from ending."""
    for leash in list(_LEASHES):
        with suppress(OSError):
            leash.let_go()


@dataclass(frozen=True)
class WorkerStart:
    """Prepares a worker process; it can be sent to one.

    Ctrl-C and schedulers signal the whole group: workers read on until the main process has finished its step. A
    thread of the worker ends it when the main process says so or dies, whatever the worker is doing.
    """

    told: Connection

    def __call__(self, worker: int) -> None:
        """Prepare this process."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        threading.Thread(target=self._end_in_time, daemon=True).start()

    def _end_in_time(self) -> None:
        main = multiprocessing.parent_process()
        wait([self.told] if main is None else [self.told, main.sentinel])
        os._exit(0)


@contextmanager
def ended_soon(leash: Leash, workers: Sequence[BaseProcess]) -> Iterator[None]:
    """A block that ends workers in an orderly way; those that take too long are told to go, and then killed.

    Killed are those that no thread of their own can end, because some library does not let it run.
    """

    def kill() -> None:
        for worker in workers:
            worker.kill()

    timers = [threading.Timer(GRACE_SECONDS, leash.let_go), threading.Timer(LAST_RESORT_SECONDS, kill)]
    for timer in timers:
        timer.daemon = True
        timer.start()
    try:
        yield
    except RuntimeError as error:
        if lost_worker(error) is None:  # workers that die now are meant to
            raise
    finally:
        for timer in timers:
            timer.cancel()


def lost_worker(error: BaseException | None) -> RunError | None:
    """What to say when PyTorch reports that a worker died or is stuck; None for any other error."""
    if not isinstance(error, RuntimeError):
        return None
    asked = "read images in worker processes"
    # PyTorch notices a killed worker twice, and its second message, which names no signal, can hide the first.
    if report := LOST_WORKER.search(str(error.__cause__)) or LOST_WORKER.search(str(error)):
        how = f"was killed by the signal {report['signal'].strip()}" if report["signal"] else "ended unexpectedly"
        return RunError(
            asked,
            why=f"a worker process {how}; most often the machine has run out of memory",
            fix="use fewer workers (--workers 1, or 0 for none) or a smaller batch",
        )
    if report := STUCK_WORKER.search(str(error)):
        return RunError(
            asked,
            why=f"no images came for {float(report['seconds']):.0f} s: a worker process is stuck, perhaps on a disk "
            "that does not answer",
            fix="check that the files can be read (rmeeto data check)",
        )
    return None
