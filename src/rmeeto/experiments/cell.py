"""Cell: one measurement of an experiment, identified by everything that decides its result."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

from rmeeto.experiments.scale import Drawing, Estimating
from rmeeto.recipe import Recipe

Work = Literal["free", "trained", "speed", "nats", "pictures"]
# Where a run writes, how often it does, and how many processes read for it change nothing in what it computes.
UNDECIDING = {"data", "output", "workers", "save_every_seconds", "log_every_steps", "device", "impl", "model"}
KEY_DIGITS = 16
# A speed cell times passes over so many images, at most so often, and after the fifth for at most so long.
SPEED_BATCH = 32
SPEED_ROUNDS = 40
SPEED_SECONDS = 20.0


@dataclass(frozen=True)
class Cell:
    """One model under one reduction, measured once.

    work: ``free`` scores the model as it is, ``trained`` re-trains it first, ``speed`` measures images per second,
    ``nats`` estimates the mutual information of a block's inputs and outputs, ``pictures`` keeps which patches were
    merged.
    model: the paper's name of the model; what runs is in the recipes.
    base: the run that trains the model from scratch; None for published weights.
    built: name and options as :func:`rmeeto.create_model` takes them, for published weights.
    reduction: its line. training: the run that re-trains. seed: of this repetition.
    data: fingerprint of the data; None if it is not known yet, which is good for a plan and not for a result.
    sizes: of the works ``nats`` and ``pictures``; None for the others.
    """

    work: Work
    model: str
    base: Recipe | None
    built: str
    reduction: str
    training: Recipe | None
    seed: int
    data: str | None
    sizes: Estimating | Drawing | None = None

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that decides the result, as the values that JSON gives back."""
        identity = {
            "work": self.work,
            "base": None if self.base is None else decisive(self.base),
            "model": self.built,
            "reduction": self.reduction,
            "training": None if self.training is None else decisive(self.training),
            "seed": self.seed,
            "data": self.data,
        }
        if self.sizes is not None:  # works without sizes have the keys that they had before there were any
            identity["sizes"] = asdict(self.sizes)
        return dict(json.loads(json.dumps(identity)))

    @cached_property
    def key(self) -> str:
        """Sixteen hexadecimal digits that change with anything in the identity."""
        return key_of(self.identity)


def key_of(identity: dict[str, Any]) -> str:
    """Sixteen hexadecimal digits of an identity; the same for a copy that was written as JSON and read back."""
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_DIGITS]


def decisive(recipe: Recipe) -> dict[str, Any]:
    """The fields of a recipe that decide what its run computes, all of them: a default may change one day.

    A field that is new to recipes must be left out here while it has the value that means what was done before it.
    """
    return {name: value for name, value in asdict(recipe).items() if name not in UNDECIDING}
