"""Which way a model goes, and what stops a faster one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from rmeeto.models.inference.conditions import (
    NOT_FROZEN,
    has_faster_ways,
    names_in,
    no_faster_way,
    why_not,
    why_not_record,
)
from rmeeto.models.inference.cuda_graph import CudaGraph
from rmeeto.models.vim.backbone import VisionMamba
from rmeeto.models.vim.block import Block

Way = Literal["layers", "block op", "network", "recorded"]

WAYS: dict[Way, str] = {
    "layers": "every layer is called by itself",
    "block op": "a block is one call",
    "network": "all from images to logits is one call",
    "recorded": "a GPU repeats a recorded pass by itself (CUDA graph)",
}


BLOCKS = "⟨blocks⟩"


@dataclass(frozen=True)
class Explanation:
    """Which way a model goes, slowest first: layers, block op, network, recorded.

    reasons: what stops a faster way, a sentence each. Printed, all of it stands there.
    """

    way: Way
    reasons: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n".join([f"{self.way}: {WAYS[self.way]}", *(f"  not faster: {reason}" for reason in self.reasons)])


def explain(model: nn.Module | CudaGraph, images: Tensor | None = None) -> Explanation:
    """Tell which way a model goes with these images, here and now, and what stops a faster one.

    Unless all is one call, the model is run once on the first image.

    Args:
        model: a model of any kind, or a recorded pass.
        images: what would be given to the model. Left out, one image of zeros, without gradients.

    >>> print(rmeeto.explain(rmeeto.freeze(model)))
    block op: a block is one call
      not faster: the reduction reads B
    """
    if isinstance(model, CudaGraph):
        return Explanation("recorded")
    if not has_faster_ways(model):
        return Explanation("layers", (no_faster_way(model),))
    if images is not None:
        return _of(model, images)
    with torch.inference_mode():
        return _of(model, model.cls_token.new_zeros(1, *model.config.input_size))


def _of(model: VisionMamba, images: Tensor) -> Explanation:
    reasons = why_not(model, images)
    if not reasons:
        return Explanation("network")
    if not any(why_not_record(model, images)):
        reasons.append("rmeeto.CudaGraph(model, images) has not recorded the pass")
    blocks = _why_layers(model, images)
    inside = [
        reason if f"block {number}" in reason else f"block {number}: {reason}"
        for number, sentences in enumerate(blocks)
        for reason in sentences
        if reason not in reasons
    ]
    return Explanation("layers" if all(blocks) else "block op", tuple(grouped([*reasons, *inside])))


def _why_layers(model: VisionMamba, images: Tensor) -> list[list[str]]:
    """For each block, what stops it from being one call; nothing if it is."""
    devices = [images.device] if images.is_cuda else []
    with torch.no_grad(), torch.random.fork_rng(devices):
        seen = model.trace(images[:1]).blocks
    names, reasons = names_in(model), []
    for block, step, tokens in zip(model.layers, model.schedule.steps, seen, strict=False):
        if type(block) is not Block:
            reasons.append([f"{names[block]} is a {type(block).__name__}"])
        elif torch.is_grad_enabled():
            why = block.why_layers(tokens, model.read_after(step))
            reasons.append([] if why is None else [why])
        elif block.executor is None:
            reasons.append([NOT_FROZEN if model.executor is None else f"{names[block]} is not frozen"])
        else:
            reasons.append(block.executor.why_not(block, tokens, model.read_after(step), names))
    return reasons


def grouped(sentences: list[str]) -> list[str]:
    """The same, with a sentence that holds for several blocks told once.

    >>> grouped(["block 1 is hooked", "block 3 is hooked"])
    ['each of blocks 1, 3 is hooked']
    """
    numbers: dict[str, list[str]] = {}
    for sentence in sentences:
        named = re.search(r"\bblock (\d+)", sentence)
        numbers.setdefault(re.sub(r"\bblock \d+", BLOCKS, sentence), []).append(named[1] if named else "")
    return [sentence.replace(BLOCKS, _blocks([*dict.fromkeys(of)])) for sentence, of in numbers.items()]


def _blocks(numbers: list[str]) -> str:
    if len(numbers) == 1:
        return f"block {numbers[0]}"
    follow = [*map(int, numbers)] == [*range(int(numbers[0]), int(numbers[-1]) + 1)]
    return f"each of blocks {numbers[0]} to {numbers[-1]}" if follow else f"each of blocks {', '.join(numbers)}"
