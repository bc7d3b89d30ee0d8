"""The loss of one micro-batch: mixed images, smoothed labels, and the unreduced model as a teacher if asked for."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rmeeto.errors import ConfigError
from rmeeto.models.dyvm import Rehearsal
from rmeeto.models.inference.freezing import freeze
from rmeeto.models.reducible import ReducibleModel
from rmeeto.recipe import Recipe
from rmeeto.runtime.randomness import Part
from rmeeto.training.dynamic import RATIO_WEIGHT, directions_loss, keep_loss, token_divergence
from rmeeto.training.mixing import Mixing


class Objective:
    """Cross-entropy against mixed and smoothed labels, plus ``distill`` times the divergence from the teacher.

    A Dynamic Vision Mamba is also held to what it should run, see :mod:`rmeeto.training.dynamic`.
    """

    def __init__(self, recipe: Recipe, num_classes: int, teacher: ReducibleModel | None) -> None:
        self.label_smoothing, self.distill, self.teacher = recipe.label_smoothing, recipe.distill, teacher
        self._mix = Mixing(recipe, num_classes) if recipe.mixup or recipe.cutmix else None

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor, part: Part | None = None) -> Tensor:
        """The mean loss of ``(b, c, h, w)`` images or ``(b, c, t, h, w)`` clips with ``(b,)`` labels.

        part: what the batch is of its step; None is a step by itself, drawn for by the global generators.
        """
        if self._mix is None:
            answer = model(images)
            loss = F.cross_entropy(_logits(answer), labels, label_smoothing=self.label_smoothing)
        else:
            images, soft_labels = self._mix(images, labels, part)
            answer = model(images)
            loss = F.cross_entropy(_logits(answer), soft_labels)
        if isinstance(answer, Rehearsal):
            loss = loss + RATIO_WEIGHT * (keep_loss(answer) + directions_loss(answer))
        if self.teacher is not None:
            loss = loss + self.distill * self._difference(self.teacher, images, answer)
        return loss

    def _difference(self, teacher: ReducibleModel, images: Tensor, answer: Tensor | Rehearsal) -> Tensor:
        """How far an answer is from the teacher's; of a rehearsal also how far its tokens are."""
        if not isinstance(answer, Rehearsal):
            with torch.no_grad():
                target = teacher(images).float()
            return divergence(target, _logits(answer))
        with torch.no_grad():
            final = teacher.encode(images)
            target = teacher.classify(final).float()
        return divergence(target, _logits(answer)) + token_divergence(final.x, answer)


def _logits(answer: Tensor | Rehearsal) -> Tensor:
    return (answer.logits if isinstance(answer, Rehearsal) else answer).float()


def divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """KL(teacher ‖ student) of ``(b, classes)`` logits at temperature 1, mean over the batch."""
    return F.kl_div(student.log_softmax(-1), teacher.log_softmax(-1), reduction="batchmean", log_target=True)


def make_teacher(model: ReducibleModel, recipe: Recipe, device: torch.device) -> ReducibleModel | None:
    """The model before re-training, unreduced, in eval mode, on the device; None if the recipe does not distil.

    Raises:
        ConfigError: there are no weights that could teach anything.
    """
    if not recipe.distill:
        return None
    if recipe.from_scratch:
        raise ConfigError(
            "distil from the unreduced model",
            given=f"distill = {recipe.distill:g}, weights = none",
            why="a model without trained weights has nothing to teach",
            fix="give weights, or distill = 0",
        )
    teacher = freeze(copy.deepcopy(model).to(device).requires_grad_(False))
    teacher.reduction = None
    return teacher
