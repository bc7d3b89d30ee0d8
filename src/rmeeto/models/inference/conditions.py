"""What stops a model from running in one call: every condition, as the sentence that is true if it is not met.

Each function gives its sentences; if there are none, the faster way is taken. Executors decide by the same
functions, and between two images a :class:`Snapshot` tells them whether the answers could have changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeGuard

import torch
from torch import Tensor, nn

from rmeeto.models.layers import PatchEmbed, RMSNorm
from rmeeto.models.vim.as_written import passes_all
from rmeeto.models.vim.backbone import VisionMamba
from rmeeto.ops.packed.block import unsupported_reason
from rmeeto.ops.watch import is_watchable
from rmeeto.reduction import STM, TokenMerge

OUTSIDE = ("patch_embed", "drop_path", "norm_f", "head_drop", "head")
MERGING = (TokenMerge, STM)  # methods that merge in order and by size, which one call can do
NOT_FROZEN = "the model is not frozen (rmeeto.freeze(model) does that)"


def why_not(model: nn.Module, images: Tensor) -> list[str]:
    """What stops ``model(images)`` from being one call now, a sentence each; empty if nothing does.

    >>> why_not(model, images)
    ['block 7 has a forward hook']
    """
    if not has_faster_ways(model):
        return [no_faster_way(model)]
    if model.executor is None:
        return [NOT_FROZEN]
    reasons: list[str] = model.executor.why_not(model, images)
    return [*dict.fromkeys(reasons)]


def has_faster_ways(model: nn.Module) -> TypeGuard[VisionMamba]:
    """Whether ``forward`` is the one that asks an executor."""
    forward = getattr(model.forward, "__func__", None)
    return isinstance(model, VisionMamba) and forward is VisionMamba.forward


def no_faster_way(model: nn.Module) -> str:
    """The sentence about all other models."""
    return f"a {type(model).__name__} has no faster way: only a VisionMamba with its own forward has"


def why_not_record(model: nn.Module, images: Tensor) -> Iterator[tuple[str, str]]:
    """What stops a GPU from recording the pass as a CUDA graph: why, and what to do instead."""
    reduction = getattr(model, "reduction", None)
    if model.training:
        yield "it is in training mode", "call rmeeto.freeze(model)"
    if reduction is not None and reduction.varies:
        yield f"what {reduction} removes depends on the images", "use a constant r or ratio"
    if not images.is_cuda:
        yield f"its images are on {images.device}", "only a GPU repeats launches by itself"


def why_not_pack(model: VisionMamba, dtype: torch.dtype) -> Iterator[str]:
    """What stops machine and parameters outside of the blocks from having products in dtype; blocks come later."""
    reason = unsupported_reason(dtype, model.config.state, model.config.conv_width)
    if reason is not None:
        yield reason
    of_layers = (
        (f"{path}.{name}", parameter)
        for path, layer in outside_blocks(model).items()
        for name, parameter in layer.named_parameters(recurse=False)
    )
    for name, parameter in (*model.named_parameters(recurse=False), *of_layers):
        if not is_watchable(parameter):
            yield f"{name} is not plain memory"


def why_not_these(images: Tensor, dtype: torch.dtype, size: tuple[int, ...]) -> list[str]:
    """What stops images of another dtype or size than the model's."""
    reasons = []  # asked in every frozen pass, where a generator would cost more
    if images.dtype != dtype:
        reasons.append(f"the images are {images.dtype}, the weights {dtype}".replace("torch.", ""))
    if images.shape[1:] != size:
        reasons.append(f"the images are {tuple(images.shape[1:])}, the model takes {tuple(size)}")
    return reasons


def why_not_embed(model: VisionMamba) -> Iterator[str]:
    """What stops the patch embedding: patches must lie side by side, and be embedded by layers of this package."""
    embed = model.patch_embed
    if type(embed) is not PatchEmbed:
        yield f"patch_embed is a {type(embed).__name__}"
    elif type(embed.proj) not in (nn.Conv2d, nn.Conv3d):
        yield f"patch_embed.proj is a {type(embed.proj).__name__}"
    else:
        proj = embed.proj
        if proj.kernel_size != proj.stride:
            yield f"patches of {proj.kernel_size} start every {proj.stride} pixels, not side by side"
        if proj.bias is None:
            yield "patch_embed.proj has no bias"
        if proj.groups != 1 or any(proj.padding) or set(proj.dilation) != {1}:
            yield "patch_embed.proj pads, leaves gaps or has groups"


def why_not_classify(model: VisionMamba) -> Iterator[str]:
    """What stops norm and head: they must read the class token, and be this package's norm and a linear layer."""
    if model.config.global_pool != "token":
        yield f"the head reads more than the class token (global_pool={model.config.global_pool!r})"
    yield from (
        f"{name} may drop values" for name in ("drop_path", "head_drop") if not passes_all(getattr(model, name))
    )
    if type(model.norm_f) is not RMSNorm:
        yield f"norm_f is a {type(model.norm_f).__name__}"
    if type(model.head) is not nn.Linear:
        yield f"head is a {type(model.head).__name__}"
    elif model.head.bias is None:
        yield "head has no bias"


def why_not_merge(model: VisionMamba) -> Iterator[str]:
    """What stops the reduction: inside of one call rows are merged by their own values, and nothing else."""
    reduction = model.reduction
    if isinstance(reduction, MERGING):
        if reduction.features != "X":
            yield f"the reduction reads {reduction.features}"
        if model.schedule.counts[0]:
            yield "the reduction removes tokens before the first block"
        yield from reduction.beyond_plain_matching()
    elif reduction is not None:
        yield f"the reduction is a {type(reduction).__name__}, which is more than plain merging"


def outside_blocks(model: VisionMamba) -> dict[str, nn.Module]:
    """The layers before and behind the blocks and their parts, by their names in the model."""
    layers = ((name, getattr(model, name)) for name in OUTSIDE)
    return {
        path: module for name, layer in layers if layer is not None for path, module in layer.named_modules(prefix=name)
    }


def names_in(model: nn.Module) -> dict[nn.Module, str]:
    """What sentences call the modules of a model: ``block 7``, ``mixer.in_proj of block 7``, ``head``."""
    return {module: _called(path) for path, module in model.named_modules()}


def _called(path: str) -> str:
    first, *inside = path.split(".")
    if first != "layers" or not inside:
        return path or "the model"
    block = f"block {inside[0]}"
    return f"{'.'.join(inside[1:])} of {block}" if inside[1:] else block
