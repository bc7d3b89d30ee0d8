"""How many images one core reads and prepares per second, measured on given data."""

from __future__ import annotations

import time

import torch

from rmeeto.data import Augmentation, Preparation, Source, training_reading
from rmeeto.data.samples import Draw, TrainingSamples
from rmeeto.data.sampling import ONE_VIEW, ClipSampling
from rmeeto.data.transforms import AS_DEIT
from rmeeto.errors import DataError
from rmeeto.runtime.progress import SILENT, Progress
from rmeeto.speed.timing import Clock

WARM_UP = 2  # images; the first one imports what decodes it
FEWEST = 8


def reading_rate(
    source: Source,
    preparation: Preparation,
    *,
    augmentation: Augmentation = AS_DEIT,
    clips: ClipSampling = ONE_VIEW,
    most: int = 400,
    seconds: float = 5.0,
    clock: Clock = time.perf_counter,
    progress: Progress = SILENT,
) -> float:
    """Training images per second of one core: read, decode, augment, normalise, as a worker process does.

    most: images to read at the most, evenly spaced over the source. seconds: stop when this long has been spent.
    Files that were read a short time ago come from memory, so a slow disk shows only at the first measurement.

    Raises:
        DataError: the model takes something else than these, or not one of the images can be read.
        ConfigError: the augmentation is impossible.
    """
    total = len(source.labels)
    places = [place * total // min(most, total) for place in range(min(most, total))]
    samples = TrainingSamples(source, range(total), training_reading(source, preparation, augmentation, clips), seed=0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a worker
    try:
        with progress.task("reading images on one core", len(places)) as task:
            for place in places[:WARM_UP]:
                _check_readable(samples[Draw(0, place)].views, source)
            read, started = 0, clock()
            for place in places:
                _check_readable(samples[Draw(0, place)].views, source)
                read += 1
                spent = clock() - started
                task.advance(1, images_per_second=read / spent if spent else 0.0)
                if read >= FEWEST and spent >= seconds:
                    break
            return read / (clock() - started)
    finally:
        torch.set_num_threads(threads)


def _check_readable(views: torch.Tensor | None, source: Source) -> None:
    if views is None:
        raise DataError(
            f"measure how fast {source.address} is read",
            why="not one of its images can be read",
            fix=f"rmeeto data check {source.address} names what is broken",
        )
