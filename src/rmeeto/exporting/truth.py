"""What a model really computes: float64, the reference implementations, and what its decisions were made from."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rmeeto.exporting.around import Around
from rmeeto.exporting.choices import Choices, choices
from rmeeto.models.layers.freezing import thaw
from rmeeto.models.reducible import ReducibleModel
from rmeeto.reduction import Reduction, Tokens
from rmeeto.reduction.protocol import Step
from rmeeto.runtime.threads import one_thread


@dataclass(frozen=True)
class Truth:
    """The float64 answer to one input.

    logits: ``(classes,)``. places: by reducing block, the output place of every token that enters it, ``(l,)``.
    choices: by reducing block, what was chosen from, for the batch in which the input was number ``image``.
    """

    logits: NDArray[np.float64]
    places: Mapping[int, NDArray[np.int64]]
    choices: Mapping[int, Choices]
    image: int

    def margin(self, block: int, place: NDArray[np.integer[Any]]) -> float:
        """How much worse a plan ``(l,)`` is than the right one; see :meth:`Choices.margin`."""
        return self.choices[block].margin(self.image, torch.from_numpy(place.astype(np.int64)))


class Recorded(Around):
    """A reduction that remembers what its steps chose from."""

    def __init__(self, reduction: Reduction) -> None:
        super().__init__(reduction)
        self.seen: dict[int, Choices] = {}

    def step(self, tokens: Tokens, features: Any, step: Step) -> Tokens:
        """The reduction's."""
        self.seen[step.block] = choices(self.reduction, tokens, features, step)
        return self.reduction.step(tokens, features, step)


def in_float64(model: ReducibleModel) -> ReducibleModel:
    """A copy of the model in float64, from its weights in float32. Kernels take no float64: the reference runs."""
    own: ReducibleModel = thaw(copy.deepcopy(model)).eval().float().double().requires_grad_(False)
    return own


def truths(exact: ReducibleModel, images: Tensor) -> list[Truth]:
    """The answers of a float64 model to ``(b, c, …)`` inputs. The reference is slow, and hardly slower for several."""
    blocks = reducing_blocks(exact.schedule.counts)
    reduction = exact.reduction
    recorded = None if reduction is None else Recorded(reduction)
    try:
        if recorded is not None:
            exact.reduction = recorded  # type: ignore[assignment]  # it has all that a model asks of a reduction
        # the reference walks token by token, and several threads would wait for each other at each
        with torch.inference_mode(), one_thread():
            traced = exact.trace(images.double())
    finally:
        exact.reduction = reduction
    plans = [plan.assignment().numpy() for plan in traced.blocks[-1].plans]
    seen = {} if recorded is None else recorded.seen
    return [
        Truth(logits, {block: plan[image] for block, plan in zip(blocks, plans, strict=True)}, seen, image)
        for image, logits in enumerate(traced.logits.numpy())
    ]


def reducing_blocks(counts: Sequence[int]) -> tuple[int, ...]:
    """The blocks at whose turn tokens go."""
    return tuple(block for block, count in enumerate(counts) if count)
