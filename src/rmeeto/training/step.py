"""One optimiser step: forward and backward over its micro-batches, and the guard before AdamW."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.optim import AdamW

from rmeeto.data import Batch, BatchPlan
from rmeeto.errors import RunError
from rmeeto.models.reducible import ReducibleModel
from rmeeto.recipe import Recipe
from rmeeto.runtime.devices import ActualPrecision, autocast
from rmeeto.runtime.nonfinite import first_nonfinite, first_nonfinite_gradient
from rmeeto.runtime.processes import talking
from rmeeto.runtime.randomness import Part, drawing_for, seed_of
from rmeeto.training.by_image import LayersByImage
from rmeeto.training.gradients import average_gradients, copy_weights_of_first_process
from rmeeto.training.learning_rate import LearningRate
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

    model: moved to the device. Within a step its random layers draw by image; see :mod:`.by_image`.

    Raises (on stepping):
        RunError: three steps in a row had a non-finite loss or gradient; it names the first place where they appear.
        PeerLost: another process has ended; the weights are those after the last whole step.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        model: ReducibleModel,
        objective: Objective,
        recipe: Recipe,
        plan: BatchPlan,
        precision: ActualPrecision,
    ) -> None:
        self.accelerator, self.model, self.objective = accelerator, model, objective
        self.recipe, self.plan, self.precision = recipe, plan, precision
        self.rate = LearningRate(recipe.lr, recipe.min_lr, recipe.warmup_steps, plan.total_steps)
        self.optimizer = make_optimizer(model.to(accelerator.device), recipe)
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._layers = LayersByImage(model)
        if plan.processes > 1:
            with talking():
                copy_weights_of_first_process(model)
        self._bad_in_a_row = 0

    def step(self, step: int, batches: Iterator[Batch], *, interrupted: bool) -> StepReport:
        """Take the step with this number, on the next micro-batches."""
        count, clip_grad = self.plan.micro_batches, self.recipe.clip_grad
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate.at(step)
        self.model.train()
        self.optimizer.zero_grad()
        taken_batches, waiting = [], 0.0
        total = torch.zeros((), device=self.accelerator.device)
        for micro in range(count):
            started = time.perf_counter()
            batch = next(batches)
            waiting += time.perf_counter() - started
            taken_batches.append(batch)
            part = self._part(step, micro)
            try:
                with drawing_for(part), self._layers.in_place():
                    share = self._loss(batch, part) / count
                    torch.autograd.backward(share)
            except torch.OutOfMemoryError as error:
                raise self._too_large(error) from error
            total += share.detach()
        if self.plan.processes > 1:
            with talking():
                average_gradients(self._parameters)
                loss, stop, unreadable = self._agree(total.item(), interrupted, taken_batches)
        else:
            loss, stop, unreadable = total.item(), interrupted, _unreadable(taken_batches)
        norm = gradient_norm(self._parameters)
        taken = math.isfinite(loss) and math.isfinite(norm)
        if taken:
            if clip_grad is not None:
                torch.nn.utils.clip_grad_norm_(self._parameters, clip_grad)
            self.optimizer.step()
        self._bad_in_a_row = 0 if taken else self._bad_in_a_row + 1
        if self._bad_in_a_row == BAD_STEPS_ALLOWED:
            raise self._diverged(step, loss, norm, taken_batches)
        return StepReport(loss, norm, taken, unreadable, stop, waiting)

    def _part(self, step: int, micro: int) -> Part:
        """The images of a step that this process sees in one forward pass, and the seed of the step."""
        places = self.plan.places(self.accelerator.process_index, micro)
        return Part(seed_of(self.plan.seed, "step", step), self.plan.images_per_step, places)

    def _loss(self, batch: Batch, part: Part) -> Tensor:
        """The loss of one micro-batch; what is random in it depends on the step and the images' places there alone."""
        device = self.accelerator.device
        images = batch.images.to(device, non_blocking=True)
        labels = batch.labels.to(device, non_blocking=True)
        with autocast(device, self.precision):
            return self.objective(self.model, images, labels, part)

    def _agree(self, loss: float, interrupted: bool, batches: list[Batch]) -> tuple[float, bool, tuple[str, ...]]:
        """Mean loss, whether to stop, and the unreadable images, over all processes."""
        unreadable = _unreadable(batches)
        own = torch.tensor([loss / self.plan.processes, interrupted, len(unreadable)], device=self.accelerator.device)
        loss, stop, missing = self.accelerator.reduce(own, "sum").tolist()
        return loss, stop > 0, tuple(gather_object(list(unreadable))) if missing else ()

    def _too_large(self, error: torch.OutOfMemoryError) -> RunError:
        return RunError(
            "fit a training step into the device's memory",
            given=f"{self.plan.micro_batch} images per forward pass, {self.precision}",
            why=str(error).splitlines()[0],
            fix="halve batch_size and double accumulate: as many images per step, half of the memory",
        )

    def _diverged(self, step: int, loss: float, norm: float, batches: list[Batch]) -> RunError:
        where = first_nonfinite_gradient(self.model)

        def replay() -> None:
            for micro, batch in enumerate(batches):
                part = self._part(step, micro)
                with drawing_for(part), self._layers.in_place():
                    self._loss(batch, part)

        where = first_nonfinite(self.model, replay) or where
        return RunError(
            f"take step {step}",
            given=f"loss {loss:g}, gradient norm {norm:g}, learning rate {self.rate.at(step):.3g}, {self.precision}",
            why=f"the third step in a row with non-finite values; they first appear in: {where or 'the loss'}",
            fix="use a smaller lr, a smaller clip_grad, or precision = float32; "
            "the last saved model and state are untouched",
        )


def gradient_norm(parameters: Sequence[nn.Parameter]) -> float:
    """The 2-norm of all gradients together, not finite where one of them is not."""
    norms = [torch.linalg.vector_norm(p.grad) for p in parameters if p.grad is not None]
    return float(torch.linalg.vector_norm(torch.stack(norms))) if norms else 0.0


def _unreadable(batches: list[Batch]) -> tuple[str, ...]:
    return tuple(name for batch in batches for name in batch.unreadable)


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


def make_optimizer(model: ReducibleModel, recipe: Recipe) -> AdamW:
    """AdamW; weight decay only where it does no harm: not on norms, biases, embeddings, A and skip."""
    spared = model.no_weight_decay()
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        matrix = parameter.ndim >= 2 and name not in spared and not name.endswith(".bias")
        (decayed if matrix else free).append(parameter)
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": free, "weight_decay": 0.0}]
    return AdamW(groups, lr=recipe.lr, fused=True)
