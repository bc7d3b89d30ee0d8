"""Run the cells of tables that are not in the store yet: base models first, then cell by cell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch

from rmeeto.experiments.cell import Cell
from rmeeto.experiments.plan import Place
from rmeeto.experiments.scale import Scale
from rmeeto.experiments.store import Result, Store
from rmeeto.experiments.work import Workshop, base_key
from rmeeto.runtime.progress import SILENT, Progress


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

    jobs: cells at a time, each in a process of its own with its share of the threads. Speeds are measured alone, last.

    Raises:
        RmeetoError: what a cell raises; finished cells are in the store.
    """
    alone = [one for one in todo if jobs == 1 or one.cell.work == "speed"]
    together = [one for one in todo if one not in alone]
    if together:
        _in_processes(together, store, workshop, progress, jobs)
    for number, one in enumerate(alone, 1):
        progress.message(f"cell {number} of {len(alone)}: {described(one.cell)}")
        store.add(one.cell, workshop.run(one.cell, one.data))


def _in_processes(todo: Sequence[Todo], store: Store, workshop: Workshop, progress: Progress, jobs: int) -> None:
    threads = max(1, torch.get_num_threads() // jobs)
    settings = (workshop.folder, workshop.data, workshop.workers, threads)
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool, progress.task("cells", len(todo)) as task:
        bases = open_bases(todo, workshop)
        for trained in as_completed([pool.submit(_train_base, settings, one) for one in bases]):
            trained.result()
        running = {pool.submit(_run_cell, settings, one): one for one in todo}
        try:
            for done in as_completed(running):
                store.add(running[done].cell, done.result())
                task.advance()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


Settings = tuple[Path, Mapping[str, str], int, int]


def _workshop(settings: Settings) -> Workshop:
    folder, data, workers, threads = settings
    torch.set_num_threads(threads)
    return Workshop(folder, data, workers, SILENT)


def _train_base(settings: Settings, one: Todo) -> None:
    _workshop(settings).base(one.cell, one.data)


def _run_cell(settings: Settings, one: Todo) -> Result:
    return _workshop(settings).run(one.cell, one.data)


def described(cell: Cell) -> str:
    """A cell in a few words."""
    what = {"free": "scored", "trained": "re-trained and scored", "speed": "timed"}[cell.work]
    return f"{cell.model}, {cell.reduction}, seed {cell.seed}, {what}"
