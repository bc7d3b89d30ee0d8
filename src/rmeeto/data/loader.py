"""Which training images are drawn and in which order, and the loaders that read them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random

import torch
from torch.utils.data import Sampler

from rmeeto.data.batch_plan import BatchPlan
from rmeeto.data.reading import evaluation_reading, training_reading
from rmeeto.data.samples import Batch, Draw, EvaluationSamples, TrainingSamples, collate
from rmeeto.data.sampling import ONE_VIEW, ClipSampling, Views
from rmeeto.data.source import Source
from rmeeto.data.transforms import AS_DEIT, Augmentation, Preparation
from rmeeto.data.workers import Stream
from rmeeto.errors import DataError
from rmeeto.runtime.randomness import seed_of


def stratified(labels: Sequence[int], share: float, seed: int) -> tuple[int, ...]:
    """Indices of a share of the images (paper, Table 8), ascending; of each class that share, rounded, at least one.

    A smaller share with the same seed is contained in a larger one.
    """
    if share == 1.0:
        return tuple(range(len(labels)))
    by_class: dict[int, list[int]] = {}
    for index, label in enumerate(labels):
        by_class.setdefault(label, []).append(index)
    chosen: list[int] = []
    for label, members in by_class.items():
        Random(seed_of(seed, "subset", label)).shuffle(members)
        chosen += members[: max(1, round(share * len(members)))]
    return tuple(sorted(chosen))


class TrainingOrder(Sampler[list[Draw]]):
    """The micro-batches of one process, from any step to the end of the run.

    Every epoch has its own permutation, a function of seed and epoch, so starting in the middle skips nothing but
    numbers. Images left over at the end of an epoch are others each time.
    """

    def __init__(self, plan: BatchPlan, first_step: int = 0, rank: int = 0) -> None:
        self.plan, self.first_step, self.rank = plan, first_step, rank

    def __len__(self) -> int:
        return (self.plan.total_steps - self.first_step) * self.plan.micro_batches

    def __iter__(self) -> Iterator[list[Draw]]:
        plan = self.plan
        epoch, order = -1, []
        for step in range(self.first_step, plan.total_steps):
            if step // plan.steps_per_epoch != epoch:
                epoch = step // plan.steps_per_epoch
                order = self._permutation(epoch)
            start = (step % plan.steps_per_epoch) * plan.images_per_step
            for micro in range(plan.micro_batches):
                yield [Draw(epoch, order[start + place]) for place in plan.places(self.rank, micro)]

    def _permutation(self, epoch: int) -> list[int]:
        generator = torch.Generator().manual_seed(seed_of(self.plan.seed, "order", epoch))
        return torch.randperm(self.plan.images, generator=generator).tolist()


def training_batches(
    source: Source,
    indices: Sequence[int],
    preparation: Preparation,
    plan: BatchPlan,
    *,
    augmentation: Augmentation = AS_DEIT,
    clips: ClipSampling = ONE_VIEW,
    workers: int = 0,
    first_step: int = 0,
    rank: int = 0,
) -> Stream[Batch]:
    """Micro-batches of one process from ``first_step`` on; the workers live as long as the training.

    indices: the images to train on, of which the plan counts as many.

    Raises:
        DataError: the model takes something else than these (images, clips); while reading: not one can be read.
    """

    def check(batch: Batch) -> None:
        if len(batch.labels) < plan.micro_batch:
            raise DataError(
                f"train on {source.address}",
                given=batch.unreadable[0],
                why=f"none of the {len(indices)} training images can be read",
                fix="check the files: are they complete, and images at all?",
            )

    return Stream(
        TrainingSamples(source, indices, training_reading(source, preparation, augmentation, clips), plan.seed),
        workers,
        collate_fn=collate,
        batch_sampler=TrainingOrder(plan, first_step, rank),
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
    places: Sequence[int] | None = None,
) -> Stream[Batch]:
    """The source's images or clips in order, as batches; of several processes each takes its share.

    batch_size: inputs at a time. All views of a clip stay together, so a batch has at least as many.
    places: of the wanted images or clips in the source, in the wanted order; None is all of them.

    Raises:
        DataError: the model takes something else than these.
        ConfigError: several views of images.
    """
    reading = evaluation_reading(source, preparation, views)
    return Stream(
        EvaluationSamples(source, (range(len(source.labels)) if places is None else places)[rank::processes], reading),
        workers,
        collate_fn=collate,
        batch_size=max(1, batch_size // views.count),
    )
