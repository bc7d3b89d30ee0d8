"""What a Dynamic Vision Mamba learns from beside its labels: how much it runs, and what the whole network would see.

The authors minimise::

    cross-entropy + 10 · (keep_loss + directions_loss) + 0.5 · (divergence of logits + token_divergence)

:class:`rmeeto.training.objective.Objective` does so for a :class:`DynamicMamba` in training mode, its ``distill``
(0.5) weighing the last two. The teacher is a copy of the wrapped network::

    model = DynamicMamba(create_model("vim_small", pretrained=True), DynamicConfig(keep=0.7))
    recipe = Recipe(model="vim_small", weights="published", distill=0.5)
    objective = Objective(recipe, model.num_classes, make_teacher(model.model, recipe, device))
    loss = objective(model.train(), images, labels)
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from rmeeto.models.dyvm import Rehearsal

RATIO_WEIGHT = 10.0


def keep_loss(rehearsal: Rehearsal) -> Tensor:
    """Squared error of the share of patches left, mean over predictors and images.

    Every image is held to it by itself, because in eval mode each keeps the same number.
    """
    errors = rehearsal.keep - rehearsal.keep.new_tensor(rehearsal.keep_aim)
    return errors.square().sum(1).mean() / max(len(rehearsal.keep_aim), 1)


def directions_loss(rehearsal: Rehearsal) -> Tensor:
    """Squared error of the mean share of directions that ran: images may differ, and so may blocks."""
    return (rehearsal.directions.mean() - rehearsal.directions_aim).square()


def token_divergence(teacher: Tensor, rehearsal: Rehearsal) -> Tensor:
    """KL(teacher ‖ student) of the last tokens, softmax over the width, mean over the patches that are left.

    teacher: ``(b, l, d)``, the normalised tokens that leave the whole network.
    """
    student, target = rehearsal.x.float().log_softmax(-1), teacher.float().log_softmax(-1)
    each = F.kl_div(student, target, reduction="none", log_target=True).sum(-1)
    return (each * rehearsal.token_mask).sum() / rehearsal.token_mask.sum().clamp(min=1)
