"""Gradients and weights that several processes have in common.

One sum over one flat buffer, always in the order of the parameters, so that the same processes always add up in the
same order. DistributedDataParallel puts its buffers together anew after the first step of an attempt, so a resumed
run of four processes would differ from an uninterrupted one in the last digit.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import nn


def copy_weights_of_first_process(model: nn.Module) -> None:
    """Give every process the weights and buffers of process 0."""
    for tensor in model.state_dict().values():
        dist.broadcast(tensor, 0)


@torch.no_grad()
def average_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Replace each gradient by its mean over all processes; one that no process has stays None."""
    device, sizes = parameters[0].device, [parameter.numel() for parameter in parameters]
    parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    owned = torch.tensor([p.grad is not None for p in parameters], dtype=torch.float32, device=device)
    flat = torch.cat([*(part.flatten() for part in parts), owned])
    dist.all_reduce(flat)
    *means, owners = torch.split(flat / dist.get_world_size(), [*sizes, len(sizes)])
    for parameter, mean, owner in zip(parameters, means, owners.tolist(), strict=True):
        parameter.grad = mean.view_as(parameter).to(parameter.dtype) if owner else None
