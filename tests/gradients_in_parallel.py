"""Gradients of a small model that two processes have together."""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from rmeeto import TokenMerge
from small_models import images_of, model_of

BATCH = 4
LABELS = torch.arange(BATCH)


def loss_of(model, images, labels):
    return F.cross_entropy(model(images), labels, reduction="sum") / BATCH


def gradients_in_parallel(rank, folder):
    dist.init_process_group("gloo", rank=rank, world_size=2)
    try:
        for wrap in (replicated, sharded):
            model = model_of(reduction=TokenMerge(r=5)).train()
            images, mine = images_of(model, BATCH), slice(rank * BATCH // 2, (rank + 1) * BATCH // 2)
            wrapped = wrap(model)
            # both ways average over processes what is here a sum over all images
            (2 * loss_of(wrapped, images[mine], LABELS[mine])).backward()
            gradients = {name: p.grad for name, p in model.named_parameters()}
            whole = {name: g.full_tensor() if hasattr(g, "full_tensor") else g for name, g in gradients.items()}
            if rank == 0:
                torch.save(whole, folder / wrap.__name__)
    finally:
        dist.destroy_process_group()


def replicated(model):
    return nn.parallel.DistributedDataParallel(model)


def sharded(model):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (2,))
    for block in model.layers:
        fully_shard(block, mesh=mesh)
    return fully_shard(model, mesh=mesh)
