"""What stops a model from running in the C library: it computes a Vision Mamba that merges pairs, in one call."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from rmeeto.models.inference.conditions import (
    MERGING,
    names_in,
    outside_blocks,
    why_not_classify,
    why_not_embed,
    why_not_merge,
)
from rmeeto.models.inference.snapshot import Snapshot
from rmeeto.models.vim.as_written import passes_all
from rmeeto.models.vim.backbone import MODEL_METHODS, VisionMamba
from rmeeto.models.vim.block import BLOCK_METHODS, Block, what_is_replaced
from rmeeto.ops.impl.cpp import MAX_STATES, WIDTHS

DTYPES = (torch.float32, torch.bfloat16)


def why_not_save(model: nn.Module) -> Iterator[str]:
    """What stops a model from being saved for the C library, a sentence each; none if it can be.

    >>> [*why_not_save(create_model("deit_tiny"))]
    ['a VisionTransformer is no VisionMamba, and the library computes no other network']
    """
    if type(model) is not VisionMamba:
        yield f"a {type(model).__name__} is no VisionMamba, and the library computes no other network"
        return
    dtypes = {parameter.dtype for parameter in model.parameters()}
    if not any(dtypes == {dtype} for dtype in DTYPES):
        given = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in dtypes))
        yield f"the weights are {given}; the library computes in float32 or bfloat16"
    yield from why_not_embed(model)
    yield from why_not_classify(model)
    yield from _why_not_reduce(model)
    yield from _why_not_blocks(model)
    yield from _what_is_hooked(model)
    channels = model.config.in_chans
    for name in ("mean", "std"):
        if len(model.pretrained_cfg[name]) != channels:
            yield f"the model names {len(model.pretrained_cfg[name])} numbers of {name} for {channels} channels"


def _why_not_reduce(model: VisionMamba) -> Iterator[str]:
    if model.reduction is not None and not isinstance(model.reduction, MERGING):
        yield f"the reduction is a {type(model.reduction).__name__}; the library merges pairs, as merge and stm do"
    else:
        yield from why_not_merge(model)


def _why_not_blocks(model: VisionMamba) -> Iterator[str]:
    if not len(model.layers):
        yield "the model has no blocks"
    for number, layer in enumerate(model.layers):
        if type(layer) is not Block:
            yield f"block {number} is a {type(layer).__name__}"
        elif (replaced := what_is_replaced(layer)) is not None:
            yield f"block {number}: {replaced}"
        elif not passes_all(layer.drop_path):
            yield f"block {number}: drop_path may drop values (model.eval() stops it)"
        elif layer.mixer.state > MAX_STATES or layer.mixer.conv_width not in WIDTHS:
            yield (
                f"block {number} has {layer.mixer.state} states and {layer.mixer.conv_width} taps; "
                f"at most {MAX_STATES} states and 2 to 4 taps are possible"
            )
    numbers = {(layer.norm.eps, layer.mixer.scale) for layer in model.layers if isinstance(layer, Block)}
    if len(numbers) > 1:
        yield "not all blocks have the same eps and scale"


def _what_is_hooked(model: VisionMamba) -> Iterator[str]:
    if any(type(layer) is not Block for layer in model.layers):
        return
    called = [*outside_blocks(model).values(), *(module for layer in model.layers for module in layer.modules())]
    methods = [method.of(type(model)) for method in MODEL_METHODS]
    snapshot = Snapshot([model, model.layers, *called], [model, *called], [*methods, *BLOCK_METHODS])
    yield from snapshot.changes(names_in(model))
