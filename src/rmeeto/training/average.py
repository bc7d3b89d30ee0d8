"""An exponential moving average of a model's weights, which often scores better than the last ones."""

from __future__ import annotations

import copy
from typing import Any

import torch

from rmeeto.models.reducible import ReducibleModel


class WeightAverage:
    """The average model and how often it was updated.

    The n-th update keeps ``min(decay, (1 + n) / (10 + n))`` of the average, so that short runs do not end on their
    first weights; from n = 10 · decay / (1 - decay) on it is the decay itself.
    """

    def __init__(self, model: ReducibleModel, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, model: ReducibleModel) -> None:
        """Move a little towards the model's present weights."""
        self.updates += 1
        keep = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for mean, value in zip(self.model.state_dict().values(), model.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, 1 - keep)
            else:
                mean.copy_(value)

    def state_dict(self) -> dict[str, Any]:
        """Weights and counter."""
        return {"updates": self.updates, "model": self.model.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved average."""
        self.updates = state["updates"]
        self.model.load_state_dict(state["model"])
