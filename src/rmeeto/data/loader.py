"""The order in which images are drawn, and the loaders that read them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler

from rmeeto.data.reading import evaluation_reading, training_reading
from rmeeto.data.samples import Batch, Draw, EvaluationSamples, TrainingSamples, collate
from rmeeto.data.sampling import ONE_VIEW, Views
from rmeeto.data.source import Source
from rmeeto.data.subset import stratified
from rmeeto.data.transforms import Preparation
from rmeeto.data.workers import Stream
from rmeeto.errors import DataError
from rmeeto.pace import Pace
from rmeeto.randomness import seed_of
from rmeeto.recipe import Recipe


class TrainingOrder(Sampler[list[Draw]]):
    """The micro-batches of one process, from any step to the end of the run.

    Every epoch has its own permutation, a function of seed and epoch, so starting in the middle skips nothing but
    numbers. Images left over at the end of an epoch are others each time.
    """

    def __init__(self, pace: Pace, first_step: int = 0, rank: int = 0) -> None:
        self.pace, self.first_step, self.rank = pace, first_step, rank

    def __len__(self) -> int:
        return (self.pace.total_steps - self.first_step) * self.pace.micro_batches

    def __iter__(self) -> Iterator[list[Draw]]:
        pace = self.pace
        size = pace.recipe.images_per_step
        epoch, order = -1, []
        for step in range(self.first_step, pace.total_steps):
            if step // pace.steps_per_epoch != epoch:
                epoch = step // pace.steps_per_epoch
                order = self._permutation(epoch)
            start = (step % pace.steps_per_epoch) * size
            for micro in range(pace.micro_batches):
                yield [Draw(epoch, order[start + place]) for place in pace.places(self.rank, micro)]

    def _permutation(self, epoch: int) -> list[int]:
        generator = torch.Generator().manual_seed(seed_of(self.pace.recipe.seed, "order", epoch))
        return torch.randperm(self.pace.images, generator=generator).tolist()


def training_indices(source: Source, recipe: Recipe) -> tuple[int, ...]:
    """The images that the recipe trains on: all, or its stratified subset."""
    return stratified(source.labels, recipe.subset, recipe.seed)


def training_batches(
    source: Source, indices: Sequence[int], preparation: Preparation, pace: Pace, *, first_step: int = 0, rank: int = 0
) -> Stream[Batch]:
    """Micro-batches of one process from ``first_step`` on; the workers live as long as the run.

    Raises:
        DataError: the model takes something else than these (images, clips); while reading: not one can be read.
    """
    recipe = pace.recipe

    def check(batch: Batch) -> None:
        if len(batch.labels) < pace.micro_batch:
            raise DataError(
                f"train on {source.address}",
                given=batch.unreadable[0],
                why=f"none of the {len(indices)} training images can be read",
                fix="check the files: are they complete, and images at all?",
            )

    return Stream(
        TrainingSamples(source, indices, training_reading(source, preparation, recipe), recipe.seed),
        recipe.workers,
        collate_fn=collate,
        batch_sampler=TrainingOrder(pace, first_step, rank),
        check=check,
    )


def evaluation_batches(
    source: Source,
    preparation: Preparation,
    *,
    batch_size: int,
    workers: int,
    rank: int = 0,
    processes: int = 1,
    views: Views = ONE_VIEW,
) -> Stream[Batch]:
    """The source's images or clips in order, as batches; of several processes each takes its share.

    batch_size: inputs at a time. All views of a clip stay together, so a batch has at least as many.

    Raises:
        DataError: the model takes something else than these.
        ConfigError: several views of images.
    """
    reading = evaluation_reading(source, preparation, views)
    return Stream(
        EvaluationSamples(source, range(rank, len(source.labels), processes), reading),
        workers,
        collate_fn=collate,
        batch_size=max(1, batch_size // views.count),
    )
