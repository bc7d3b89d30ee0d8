"""Run the cells of tables that are not in the store yet: base models first, then cell by cell."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch

from rmeeto.errors import DataError, RunError
from rmeeto.experiments.cell import Cell
from rmeeto.experiments.plan import Place
from rmeeto.experiments.scale import Scale
from rmeeto.experiments.store import Result, Store
from rmeeto.experiments.work import Workshop, base_key
from rmeeto.runtime.doctor import machine
from rmeeto.runtime.progress import SILENT, Progress
from rmeeto.runtime.threads import one_thread
from rmeeto.training.interruption import Interrupted

Settings = tuple[Path, Mapping[str, str], int]


@dataclass(frozen=True)
class Todo:
    """A cell to run. data: the name of its data set in the scale. seconds: expected."""

    cell: Cell
    data: str
    seconds: float


def open_cells(places: Iterable[Place], scale: Scale, store: Store) -> list[Todo]:
    """The distinct cells of these places that the store does not hold, in the order of the places."""
    todo = {
        cell.key: Todo(cell, scale.models[cell.model].data, place.seconds)
        for place in places
        for cell in place.cells
        if store.find(cell) is None
    }
    return list(todo.values())


def open_bases(todo: Sequence[Todo], workshop: Workshop) -> list[Todo]:
    """One cell for each base model that is needed and not trained yet."""
    needed = {base_key(one.cell): one for one in todo if one.cell.base is not None}
    return [one for one in needed.values() if not workshop.is_trained(one.cell)]


def seconds_left(todo: Sequence[Todo], bases: Sequence[Todo], scale: Scale) -> float:
    """Expected seconds of these cells one after the other, and of the base models that they need."""
    training = (scale.models[one.cell.model].seconds.get("base", 0.0) for one in bases)
    return sum(one.seconds for one in todo) + sum(training)


def run_cells(todo: Sequence[Todo], store: Store, workshop: Workshop, progress: Progress, jobs: int = 1) -> None:
    """Run cells and keep each result as soon as it is there.

    jobs: cells at a time, each in a process of its own; with one, cells run in this process. On a processor every cell
    computes in one thread, because sums over several threads have other roundings: so results do not depend on how
    many cells run at a time. Speeds are measured alone, last, and with all threads.

    Raises:
        RmeetoError: what a cell raises, or an interruption; finished cells are in the store.
        DataError: a data set has too few images for a cell. Nothing is run.
    """
    check_images(todo, workshop)
    try:
        _run_all(todo, store, workshop, progress, jobs)
    except (KeyboardInterrupt, Interrupted):
        raise Interrupted(
            f"run {len(todo)} cells",
            why="it was interrupted",
            fix="run the same command again: finished cells are kept, and the run that was under way goes on",
        ) from None


def check_images(todo: Sequence[Todo], workshop: Workshop) -> None:
    """Refuse data sets with fewer training images than one step of a cell takes.

    Raises:
        DataError: the first such cell.
    """
    for one in todo:
        for recipe in filter(None, (one.cell.base, one.cell.training)):
            images, step = workshop.training_images(one.data, recipe.subset), recipe.images_per_step
            if images < step:
                share, where = f"{100 * recipe.subset:g} %", workshop.data[one.data]
                raise DataError(
                    f"run {described(one.cell)}",
                    given=f"{images} training images, {share} of those in {where}",
                    why=f"one step of it takes {step}",
                    fix="give a data set with more images for each class",
                )


def _run_all(todo: Sequence[Todo], store: Store, workshop: Workshop, progress: Progress, jobs: int) -> None:
    scored = [one for one in todo if one.cell.work != "speed"]
    timed = [one for one in todo if one.cell.work == "speed"]
    if jobs > 1 and scored:
        _in_processes(scored, store, workshop, progress, jobs)
    else:
        with one_thread():
            _one_by_one(scored, store, workshop, progress)
    with one_thread():
        for one in open_bases(timed, workshop):
            workshop.base(one.cell, one.data)
    _one_by_one(timed, store, workshop, progress)


def _one_by_one(todo: Sequence[Todo], store: Store, workshop: Workshop, progress: Progress) -> None:
    for number, one in enumerate(todo, 1):
        progress.message(f"cell {number} of {len(todo)}: {described(one.cell)}")
        store.add(one.cell, workshop.run(one.cell, one.data))


def _in_processes(todo: Sequence[Todo], store: Store, workshop: Workshop, progress: Progress, jobs: int) -> None:
    settings = (workshop.folder, workshop.data, workshop.workers)
    # Ctrl-C reaches every process: this one stops, and a run in a worker saves its state by a handler of its own
    pool = ProcessPoolExecutor(
        jobs, mp_context=get_context("spawn"), initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN)
    )
    bases = {base_key(one.cell): one for one in open_bases(todo, workshop)}
    waiting: dict[str, list[Todo]] = {key: [] for key in bases}
    ready: deque[Todo] = deque()
    for one in todo:
        waiting.get(base_key(one.cell) if one.cell.base is not None else "", ready).append(one)
    untrained, running = deque(bases), dict[Future[Result | None], str | Todo]()
    try:
        with progress.task("base models and cells", len(bases) + len(todo)) as task:
            while ready or untrained or running:
                # a cell whose base model is there goes before the next base model: so results come early
                while len(running) < jobs and (ready or untrained):
                    if ready:
                        one = ready.popleft()
                        running[pool.submit(_run_cell, settings, one)] = one
                    else:
                        key = untrained.popleft()
                        running[pool.submit(_train_base, settings, bases[key])] = key
                for done in wait(running, return_when=FIRST_COMPLETED).done:
                    what, result = running.pop(done), done.result()
                    if isinstance(what, str):
                        ready.extend(waiting[what])
                    elif result is not None:
                        store.add(what.cell, result)
                    task.advance()
    except BrokenProcessPool as error:
        raise RunError(
            f"run {len(todo)} cells, {jobs} at a time",
            why="one of the processes was killed, as happens when memory runs out",
            fix="run the same command again with fewer --jobs: finished cells are kept",
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)
        for future, what in running.items():  # after an error or Ctrl-C: what ended meanwhile is kept
            kept = future.done() and not future.cancelled() and future.exception() is None
            if kept and isinstance(what, Todo) and (result := future.result()) is not None:
                store.add(what.cell, result)


def _train_base(settings: Settings, one: Todo) -> None:
    with one_thread():
        Workshop(*settings, SILENT).base(one.cell, one.data)


def _run_cell(settings: Settings, one: Todo) -> Result | None:
    with one_thread():
        return Workshop(*settings, SILENT).run(one.cell, one.data)


def usual_jobs() -> int:
    """One cell for each core that this process may use; one in all if there is a GPU."""
    return 1 if torch.cuda.is_available() else machine().cores


def described(cell: Cell) -> str:
    """A cell in a few words."""
    what = {
        "free": "scored",
        "trained": "re-trained and scored",
        "speed": "timed",
        "nats": "its information estimated",
        "pictures": "its merged patches drawn",
    }[cell.work]
    return f"{cell.model}, {cell.reduction}, seed {cell.seed}, {what}"
