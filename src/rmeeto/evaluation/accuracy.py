"""Evaluate a model on labelled images or clips."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import PartialState
from accelerate.utils import gather_object, reduce
from torch import Tensor, nn

from rmeeto.cost import count
from rmeeto.data import ONE_VIEW, Batch, Preparation, Source, Views, check_classes, evaluation_batches, open_data
from rmeeto.errors import DataError, RunError, listed
from rmeeto.models.inference.freezing import frozen
from rmeeto.models.reducible import ReducibleModel
from rmeeto.runtime.devices import ActualPrecision, autocast, find_device, find_precision
from rmeeto.runtime.nonfinite import first_nonfinite
from rmeeto.runtime.processes import talking
from rmeeto.runtime.progress import SILENT, Progress, Task

TOP5_CLASSES = 6
NAMES_SHOWN = 10
RANDOM_REDUCTIONS_SEED = 0  # a reduction with random choices scores the same in every evaluation


@dataclass(frozen=True)
class Spent:
    """Mean cost over images, for reductions whose schedule is only an upper bound.

    gflops_exact, gflops_paper: in both conventions of :mod:`rmeeto.cost`. tokens: leaving the last block.
    reduction_ratio: share of tokens saved, averaged over the blocks.
    """

    gflops_exact: float
    gflops_paper: float
    tokens: float
    reduction_ratio: float


@dataclass(frozen=True)
class Evaluation:
    """Accuracy over a set of images or clips.

    top1_percent, top5_percent: of ``images``; top 5 is None below six classes. loss: mean cross-entropy.
    images: how many were evaluated. skipped: ``name: reason`` of unreadable ones, left out only if that was allowed.
    seconds: in total, reading included. spent: the mean cost if the reduction varies from image to image, else None.
    correct: whether each image was classified correctly, in the order of the source, so that two models are compared
    image by image; None if images were skipped, because the places of the others would be uncertain.
    """

    top1_percent: float
    top5_percent: float | None
    loss: float
    images: int
    skipped: tuple[str, ...]
    seconds: float
    spent: Spent | None = None
    correct: tuple[bool, ...] | None = None


def evaluate(
    model: ReducibleModel,
    data: str | Path | Source,
    *,
    batch_size: int = 128,
    device: str | torch.device = "auto",
    precision: str = "float32",
    workers: int = 2,
    allow_missing: bool = False,
    views: Views = ONE_VIEW,
    progress: Progress = SILENT,
    description: str = "evaluating",
) -> Evaluation:
    """Run a model over the validation images or clips of ``data`` and score it. The model is moved to the device.

    data: what :func:`rmeeto.data.open_data` opens, or an opened source. precision: float32, bfloat16 or auto.
    allow_missing: leave unreadable images out of the score (and say so) instead of refusing it. views: of each clip;
    its score is the mean of their probabilities. batch_size counts views. Under a launcher such as torchrun every
    process calls this with the same arguments, takes its share and gets the whole result.

    Raises:
        DataError: data that cannot be opened, has other classes than the model, has unreadable images, or holds clips
            where the model takes images.
        ConfigError: several views of images.
        RunError: the model's logits are not finite. PeerLost: another process has ended.

    >>> evaluate(create_model("vim_digits", pretrained=True), "digits", workers=0).top1_percent
    99.4
    """
    source = data if not isinstance(data, str | Path) else open_data(data, "val")
    check_classes(source, model.num_classes)
    device = find_device(device) if isinstance(device, str) else device
    actual = find_precision(precision, device)
    started = time.perf_counter()
    with frozen(model.to(device)), torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(RANDOM_REDUCTIONS_SEED)
        rank, processes = _place_among_processes(device)
        batches = evaluation_batches(
            source,
            Preparation.of(model),
            batch_size=batch_size,
            workers=workers,
            rank=rank,
            processes=processes,
            views=views,
        )
        total = len(range(rank, len(source.labels), processes))
        with batches, progress.task(description, total=total) as task:
            stops = not allow_missing and processes == 1  # at the first image that cannot be read
            sums, skipped, correct = _sums(model, batches, device, actual, task, stops=stops)
    if processes > 1:
        # errors are raised after the sums, so that no process waits for one that has raised
        with talking():
            sums = reduce(sums.to(device), "sum").cpu()
            skipped = gather_object(skipped)
            correct = _interleaved(gather_object([correct]))
    right, among5, loss, images, *spent = sums.tolist()
    if (skipped and not allow_missing) or not images:
        raise _refusal(source, skipped)
    if skipped:
        lines = "".join(f"\n  {name}" for name in skipped)
        progress.message(
            f"{len(skipped)} unreadable ones left out; the accuracy is about the other {images:.0f}:{lines}"
        )
    return Evaluation(
        top1_percent=100 * right / images,
        top5_percent=100 * among5 / images if model.num_classes >= TOP5_CLASSES else None,
        loss=loss / images,
        images=round(images),
        skipped=tuple(skipped),
        seconds=time.perf_counter() - started,
        spent=Spent(*(figure / images for figure in spent)) if varies(model) else None,
        correct=None if skipped else tuple(correct),
    )


def varies(model: nn.Module) -> bool:
    """Whether images lose different numbers of tokens."""
    reduction = getattr(model, "reduction", None)
    return reduction is not None and reduction.varies


@torch.no_grad()
def _sums(
    model: ReducibleModel,
    batches: Iterable[Batch],
    device: torch.device,
    precision: ActualPrecision,
    task: Task,
    *,
    stops: bool,
) -> tuple[Tensor, list[str], list[bool]]:
    """What :func:`_score` gives, summed over the batches; the images that cannot be read; which others are right.

    stops: at the first that cannot be read.
    """
    sums = torch.zeros(4 + len(fields(Spent)), dtype=torch.float64)
    unreadable, correct = list[str](), list[bool]()
    for batch in batches:
        unreadable += batch.unreadable
        if batch.unreadable and stops:
            break
        if len(batch.labels):
            figures, first = _score(model, batch, device, precision)
            sums += figures
            correct += first
        right, _, _, images, *_ = sums.tolist()
        task.advance(len(batch.labels) + len(batch.unreadable), top1_percent=100 * right / max(images, 1))
    return sums, unreadable, correct


def _interleaved(shares: list[list[bool]]) -> list[bool]:
    """The order of the source, in which the images were dealt out to the processes one by one."""
    return [share[place] for place in range(len(shares[0])) for share in shares if place < len(share)]


def _place_among_processes(device: torch.device) -> tuple[int, int]:
    """Number of this process, and the number of processes."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return 0, 1  # not through accelerate, which would keep this device for later runs
    state = PartialState(cpu=device.type == "cpu")
    return state.process_index, state.num_processes


def _score(
    model: nn.Module, batch: Batch, device: torch.device, precision: ActualPrecision
) -> tuple[Tensor, list[bool]]:
    """Right at rank 1, right among the first 5, summed loss, images, and the sums of what :class:`Spent` holds.

    And whether each image is right at rank 1.
    """
    images, labels = batch.images.to(device), batch.labels.to(device)
    with autocast(device, precision):
        logits, spent = _answers(model, images)
    logits = logits.float()
    if not logits.isfinite().all():
        raise _not_finite(model, images, device, precision)
    logits = mean_over_views(logits, batch.views)
    ranked = logits.topk(min(5, logits.shape[1]), dim=1).indices == labels[:, None]
    loss = F.cross_entropy(logits, labels, reduction="sum")
    figures = (ranked[:, 0].sum(), ranked.sum(), loss, len(labels))
    per_image = [figure / batch.views for figure in spent]
    sums = torch.tensor([*(float(figure) for figure in figures), *per_image], dtype=torch.float64)
    return sums, ranked[:, 0].tolist()


def _answers(model: Any, images: Tensor) -> tuple[Tensor, list[float]]:
    """Logits, and the sums over the images of what :class:`Spent` holds, zeros where it does not vary."""
    if not varies(model):
        return model(images), [0.0] * len(fields(Spent))
    logits, tokens = model.forward_counts(images)
    spent = []
    for seen in tokens.tolist():
        exact, paper = (count(model.config, model.reduction, convention=name, seen=seen) for name in ("exact", "paper"))
        spent.append((exact.total / 1e9, paper.total / 1e9, seen[-1], exact.schedule.ratio))
    return logits, [sum(figures) for figures in zip(*spent, strict=True)]


def mean_over_views(logits: Tensor, views: int) -> Tensor:
    """``(b · views, classes)`` logits to ``(b, classes)``: the logarithm of the views' mean probability.

    One view's logits stay as they are.
    """
    if views == 1:
        return logits
    log_probabilities = logits.log_softmax(-1).reshape(-1, views, logits.shape[-1])
    return torch.logsumexp(log_probabilities, dim=1) - math.log(views)


def _not_finite(model: nn.Module, images: Tensor, device: torch.device, precision: ActualPrecision) -> RunError:
    def again() -> None:
        with autocast(device, precision):
            model(images)

    return RunError(
        "evaluate the model",
        given=f"{len(images)} images in {precision}",
        why=f"its logits are not finite; first non-finite values: {first_nonfinite(model, again) or 'not found again'}",
        fix="the weights are damaged, or too large for this precision: try float32",
    )


def _refusal(source: Source, unreadable: list[str]) -> DataError:
    return DataError(
        f"evaluate on {source.address}",
        given=listed(unreadable, NAMES_SHOWN) or None,
        why="accuracy over the readable images alone would be that of another set",
        fix="restore or remove the files; an evaluation alone can also allow missing images (--allow-missing)",
    )
