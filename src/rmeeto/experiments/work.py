"""Run a cell: train its base model if that is missing, reduce, re-train, and score or measure the result."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import torch

from rmeeto.data import Source, fingerprint, open_data, stratified
from rmeeto.errors import DataError
from rmeeto.evaluation import Evaluation, evaluate
from rmeeto.evaluation.scores import noise
from rmeeto.experiments.cell import SPEED_BATCH, SPEED_ROUNDS, SPEED_SECONDS, Cell, decisive, key_of
from rmeeto.experiments.nats import Nats, estimate
from rmeeto.experiments.pictures import Pictures, take
from rmeeto.experiments.scale import Drawing, Estimating
from rmeeto.experiments.source_version import commit
from rmeeto.experiments.store import Result, Speed, packed
from rmeeto.files.run_files import RESULTS
from rmeeto.models.factory import create_model
from rmeeto.models.inference.freezing import frozen
from rmeeto.models.reducible import ReducibleModel
from rmeeto.recipe import PUBLISHED, Recipe
from rmeeto.reduction import parse_reduction
from rmeeto.runtime.devices import backend, find_device
from rmeeto.runtime.doctor import machine
from rmeeto.runtime.progress import Progress
from rmeeto.speed.run import under
from rmeeto.speed.timing import Stopwatch, take_turns
from rmeeto.training import retrain, train
from rmeeto.training.conditions import versions

SAMPLED_FILES = 500  # of each split


class Workshop:
    """Does the cells of one scale in a folder that holds base models and the run under way.

    data: the address of each of the scale's data sets. A base model is trained once, by a run that can be interrupted
    and goes on, and kept in ``folder/base-…``; a re-trained model is removed once it is scored.
    """

    def __init__(self, folder: Path, data: Mapping[str, str], workers: int, progress: Progress) -> None:
        self.folder, self.data, self.workers, self.progress = folder, data, workers, progress
        self._sources: dict[str, Source] = {}
        self._training_images: dict[tuple[str, float], int] = {}

    def run(self, cell: Cell, data: str) -> Result:
        """The result of a cell whose data set has this name in the scale.

        Raises:
            DataError: the data is not what the cell is about. RunError: the run was interrupted, or the disk is full.
        """
        base = self.base(cell, data)
        started = time.perf_counter()
        if cell.work == "trained":
            evaluation, weights = self._trained(cell, base, self.data[data])
            return self._result(cell, weights, started, evaluation=evaluation)
        if cell.work == "pictures":
            pictures, weights = self._pictures(cell, base, data)
            return self._result(cell, weights, started, pictures=pictures)
        model = self._model(cell, base)
        weights = weights_of(model)
        if cell.work == "speed":
            return self._result(cell, weights, started, speed=self._speeds(model))
        if cell.work == "nats":
            return self._result(cell, weights, started, nats=self._nats(cell, model, data))
        return self._result(cell, weights, started, evaluation=self._score(cell, model, data))

    def base(self, cell: Cell, data: str) -> Path | None:
        """The folder of the cell's base model, trained now if it is not there; None for published weights."""
        if cell.base is None:
            return None
        folder = self._base_folder(cell)
        if self.is_trained(cell):  # a complete run is not entered again: several cells may want it at once
            return folder
        recipe = cell.base.changed(data=self.data[data], output=str(folder), workers=self.workers)
        retrain(recipe, resume=True, progress=self.progress)
        return folder

    def is_trained(self, cell: Cell) -> bool:
        """Whether the cell's base model is there already."""
        return cell.base is None or (self._base_folder(cell) / RESULTS).exists()

    def training_images(self, data: str, share: float) -> int:
        """How many images, or clips, a share of a data set's training images is."""
        if (data, share) not in self._training_images:
            labels = open_data(self.data[data], "train").labels
            self._training_images[data, share] = len(stratified(labels, share, seed=0))
        return self._training_images[data, share]

    def _base_folder(self, cell: Cell) -> Path:
        return self.folder / f"base-{base_key(cell)}"

    def _model(self, cell: Cell, base: Path | None) -> ReducibleModel:
        model = create_model(cell.built, pretrained=True) if base is None else create_model(str(base))
        model.reduction = parse_reduction(cell.reduction)
        return model

    def _source(self, data: str) -> Source:
        if data not in self._sources:
            self._sources[data] = open_data(self.data[data], "val")
        return self._sources[data]

    def _trained(self, cell: Cell, base: Path | None, address: str) -> tuple[Evaluation, str]:
        evaluation, folder = self._retrain(cell, base, address)
        weights = weights_of(create_model(str(folder)))
        shutil.rmtree(folder)
        return evaluation, weights

    def _retrain(self, cell: Cell, base: Path | None, address: str) -> tuple[Evaluation, Path]:
        """Its scores, and the folder of the re-trained model."""
        assert cell.training is not None
        folder = self.folder / f"cell-{cell.key}"
        recipe = cell.training.changed(
            model=cell.built if base is None else str(base),
            weights=PUBLISHED if base is None else None,
            reduction=cell.reduction,
            data=address,
            output=str(folder),
            workers=self.workers,
        )
        return train(recipe, resume=True, progress=self.progress), folder

    def _pictures(self, cell: Cell, base: Path | None, data: str) -> tuple[Pictures, str]:
        """What the model merges before it is re-trained and after, and the weights that it ends with."""
        assert isinstance(cell.sizes, Drawing)
        model = self._model(cell, base)
        if cell.training is None:
            return take({"merged": model}, self._source(data), cell.sizes), weights_of(model)
        _, folder = self._retrain(cell, base, self.data[data])
        retrained = create_model(str(folder))
        retrained.reduction = model.reduction
        models = {"base model": model, "re-trained": retrained}
        found = take(models, self._source(data), cell.sizes), weights_of(retrained)
        shutil.rmtree(folder)
        return found

    def _nats(self, cell: Cell, model: ReducibleModel, data: str) -> Nats:
        assert isinstance(cell.sizes, Estimating)
        return estimate(model.to(find_device("auto")), self._source(data), cell.sizes, cell.seed, self.workers)

    def _score(self, cell: Cell, model: ReducibleModel, data: str) -> Evaluation:
        """As a run that trains scores its epochs."""
        run = cell.base or Recipe()
        return evaluate(
            model,
            self._source(data),
            batch_size=run.batch_size,
            precision=run.precision,
            views=run.views,
            workers=self.workers,
            progress=self.progress,
        )

    def _speeds(self, model: ReducibleModel) -> Speed:
        """The model under its reduction and unreduced, in turns."""
        device = find_device("auto")
        images = noise(model, SPEED_BATCH).to(device)
        with frozen(model.to(device)), torch.inference_mode():
            works = [partial(under(reduction, model).eval(), images) for reduction in (model.reduction, None)]
            for work in works:
                work()
            stopwatch = Stopwatch(device)
            taken = take_turns(works, stopwatch, rounds=SPEED_ROUNDS, budget_seconds=SPEED_SECONDS, tick=lambda: None)
        own, unreduced = (tuple(SPEED_BATCH / seconds for seconds in times) for times in taken)
        return Speed(SPEED_BATCH, own, unreduced)

    def _result(
        self,
        cell: Cell,
        weights: str,
        started: float,
        *,
        evaluation: Evaluation | None = None,
        speed: Speed | None = None,
        nats: Nats | None = None,
        pictures: Pictures | None = None,
    ) -> Result:
        if evaluation is not None and evaluation.correct is None:
            raise DataError(
                f"score {cell.reduction} on every image",
                given=", ".join(evaluation.skipped[:5]),
                why="images could not be read, and models are compared image by image",
                fix="restore the files",
            )
        return Result(
            key=cell.key,
            identity=cell.identity,
            top1_percent=None if evaluation is None else evaluation.top1_percent,
            loss=None if evaluation is None else evaluation.loss,
            images=0 if evaluation is None else evaluation.images,
            correct=None if evaluation is None else packed(np.array(evaluation.correct, dtype=bool)),
            speed=speed,
            seconds=round(time.perf_counter() - started, 3),
            weights=weights,
            backend=backend((cell.base or Recipe()).impl, find_device("auto")),
            versions=versions(),
            commit=commit(),
            machine=asdict(machine()),
            nats=nats,
            pictures=pictures,
        )


def weights_of(model: ReducibleModel) -> str:
    """SHA-256 of a model's weights by name, whatever file they came from."""
    digest = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def base_key(cell: Cell) -> str:
    """What tells the cell's base model from others: its recipe and its data."""
    assert cell.base is not None
    return key_of({"recipe": decisive(cell.base), "model": cell.built, "data": cell.data})


def fingerprint_of(address: str) -> str:
    """What tells a data set from others: names and labels, as runs record them, and the bytes of some of its files."""
    sources = open_data(address, "train"), open_data(address, "val")
    digest = hashlib.sha256()
    for source in sources:
        for index in range(0, len(source.labels), max(1, len(source.labels) // SAMPLED_FILES)):
            path = Path(source.name(index))
            digest.update(path.read_bytes() if path.is_file() else b"")
    return f"{fingerprint(*sources)}-{digest.hexdigest()[:8]}"
