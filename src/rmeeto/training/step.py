"""One optimiser step: forward and backward over its micro-batches, and the guard before AdamW."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.optim import AdamW

from rmeeto.data import Batch
from rmeeto.devices import ActualPrecision, autocast
from rmeeto.errors import RunError
from rmeeto.models.backbone import VisionMamba
from rmeeto.nonfinite import first_nonfinite, first_nonfinite_gradient
from rmeeto.pace import Pace
from rmeeto.randomness import seed_all, seed_of
from rmeeto.recipe import Recipe
from rmeeto.training.objective import Objective

BAD_STEPS_ALLOWED = 3


@dataclass(frozen=True)
class StepReport:
    """What one step did, the same on every process.

    loss: mean over the step's images. grad_norm: before clipping. taken: False when loss or gradient was not finite
    and the weights were left alone. unreadable: names of images that others replaced. interrupted: some process
    was asked to stop. waiting_seconds: this process waited for images so long.
    """

    loss: float
    grad_norm: float
    taken: bool
    unreadable: tuple[str, ...]
    interrupted: bool
    waiting_seconds: float


class Stepper:
    """Everything that a step needs and that stays the same between steps.

    model: the bare one; the accelerator's wrapping of it, which sums gradients over processes, stays inside.

    Raises (on stepping):
        RunError: three steps in a row had a non-finite loss or gradient; it names the first place where they appear.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        model: VisionMamba,
        objective: Objective,
        pace: Pace,
        precision: ActualPrecision,
    ) -> None:
        self.accelerator, self.model, self.objective = accelerator, model, objective
        self.pace, self.precision = pace, precision
        self.optimizer = make_optimizer(model, pace.recipe)
        self._wrapped: nn.Module = accelerator.prepare(model)
        self._bad_in_a_row = 0

    def step(self, step: int, batches: Iterator[Batch], *, interrupted: bool) -> StepReport:
        """Take the step with this number, on the next micro-batches."""
        recipe, count = self.pace.recipe, self.pace.micro_batches
        for group in self.optimizer.param_groups:
            group["lr"] = self.pace.learning_rate(step)
        self.model.train()
        self.optimizer.zero_grad()
        taken_batches, waiting = [], 0.0
        total = torch.zeros((), device=self.accelerator.device)
        for micro in range(count):
            started = time.perf_counter()
            batch = next(batches)
            waiting += time.perf_counter() - started
            taken_batches.append(batch)
            last = micro == count - 1
            try:
                with nullcontext() if last else self.accelerator.no_sync(self._wrapped):
                    part = self._loss(self._wrapped, step, micro, batch) / count
                    self.accelerator.backward(part)
            except torch.OutOfMemoryError as error:
                raise self._too_large(error) from error
            total += part.detach()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), recipe.clip_grad or math.inf).item()
        loss, stop, unreadable = self._agree(total.item(), interrupted, taken_batches)
        taken = math.isfinite(loss) and math.isfinite(norm)
        if taken:
            self.optimizer.step()
        self._bad_in_a_row = 0 if taken else self._bad_in_a_row + 1
        if self._bad_in_a_row == BAD_STEPS_ALLOWED:
            raise self._diverged(step, loss, norm, taken_batches)
        return StepReport(loss, norm, taken, unreadable, stop, waiting)

    def _loss(self, model: nn.Module, step: int, micro: int, batch: Batch) -> Tensor:
        """The loss of one micro-batch; everything random in it depends on step, micro-batch and process alone."""
        accelerator = self.accelerator
        images = batch.images.to(accelerator.device, non_blocking=True)
        labels = batch.labels.to(accelerator.device, non_blocking=True)
        seed_all(seed_of(self.pace.recipe.seed, "step", step, micro, accelerator.process_index))
        with autocast(accelerator.device, self.precision):
            return self.objective(model, images, labels)

    def _agree(self, loss: float, interrupted: bool, batches: list[Batch]) -> tuple[float, bool, tuple[str, ...]]:
        """Mean loss, whether to stop, and the unreadable images, over all processes."""
        unreadable = [name for batch in batches for name in batch.unreadable]
        processes = self.accelerator.num_processes
        if processes > 1:
            own = torch.tensor([loss / processes, interrupted, len(unreadable)], device=self.accelerator.device)
            loss, stop, missing = self.accelerator.reduce(own, "sum").tolist()
            interrupted = stop > 0
            unreadable = gather_object(unreadable) if missing else []
        return loss, interrupted, tuple(unreadable)

    def _too_large(self, error: torch.OutOfMemoryError) -> RunError:
        return RunError(
            "fit a training step into the device's memory",
            given=f"{self.pace.micro_batch} images per forward pass, {self.precision}",
            why=str(error).splitlines()[0],
            fix="halve batch_size and double accumulate: as many images per step, half of the memory",
        )

    def _diverged(self, step: int, loss: float, norm: float, batches: list[Batch]) -> RunError:
        place = first_nonfinite_gradient(self.model)

        def replay() -> None:
            for micro, batch in enumerate(batches):
                self._loss(self.model, step, micro, batch)

        place = first_nonfinite(self.model, replay) or place
        return RunError(
            f"take step {step}",
            given=f"loss {loss:g}, gradient norm {norm:g}, learning rate {self.pace.learning_rate(step):.3g}, "
            f"{self.precision}",
            why=f"the third step in a row with non-finite values; they first appear in: {place or 'the loss'}",
            fix="use a smaller lr, a smaller clip_grad, or precision = float32; "
            "the last saved model and state are untouched",
        )


class Interval:
    """Sums over the steps between two log lines."""

    def __init__(self, images_per_step: int) -> None:
        self.images_per_step = images_per_step
        self.started = time.perf_counter()
        self.steps, self.taken, self.loss, self.grad_norm, self.waiting = 0, 0, 0.0, 0.0, 0.0

    def add(self, report: StepReport) -> None:
        """One more step."""
        self.steps += 1
        self.waiting += report.waiting_seconds
        if report.taken:
            self.taken += 1
            self.loss += report.loss
            self.grad_norm += report.grad_norm

    def figures(self) -> dict[str, float | None]:
        """Means over the steps taken (None without any), speed, and the share of time spent waiting for images."""
        seconds = time.perf_counter() - self.started
        return {
            "loss": self.loss / self.taken if self.taken else None,
            "grad_norm": self.grad_norm / self.taken if self.taken else None,
            "images_per_second": self.steps * self.images_per_step / seconds,
            "data_wait_share": self.waiting / seconds,
        }


def make_optimizer(model: VisionMamba, recipe: Recipe) -> AdamW:
    """AdamW; weight decay only where it does no harm: not on norms, biases, embeddings, A and skip."""
    spared = model.no_weight_decay()
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        matrix = parameter.ndim >= 2 and name not in spared and not name.endswith(".bias")
        (decayed if matrix else free).append(parameter)
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": free, "weight_decay": 0.0}]
    return AdamW(groups, lr=recipe.lr, fused=True)
