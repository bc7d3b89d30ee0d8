"""Software around models that nobody of this project wrote: adapters, several processes, files of weights."""

import copy

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from safetensors.torch import load_model, save_model
from torch import nn

from rmeeto import TokenMerge, freeze
from small_models import images_of, model_of

BATCH = 4
LABELS = torch.arange(BATCH)


def loss_of(model, images, labels):
    return F.cross_entropy(model(images), labels, reduction="sum") / BATCH


# ---- adapters


def test_low_rank_adapters_of_peft():
    peft = pytest.importorskip("peft")
    model = model_of(reduction=TokenMerge(r=5))
    images = images_of(model, BATCH)
    config = peft.LoraConfig(r=4, target_modules=["in_proj", "out_proj"], init_lora_weights=False)
    adapted = peft.get_peft_model(copy.deepcopy(model), config).train()
    loss_of(adapted, images, LABELS).backward()
    adapters = {name: p for name, p in adapted.named_parameters() if p.requires_grad}
    assert len(adapters) == 4 * 2 * 2  # blocks, layers, factors
    assert all(parameter.grad.any() for parameter in adapters.values())
    with torch.no_grad():
        expected = adapted.eval()(images)
        assert not torch.allclose(expected, model(images), atol=1e-3)
        torch.testing.assert_close(freeze(adapted)(images), expected, rtol=1e-3, atol=1e-4)
        merged = adapted.merge_and_unload()
        torch.testing.assert_close(merged(images), expected, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(freeze(merged)(images), expected, rtol=1e-3, atol=1e-4)


# ---- files


def test_weights_through_safetensors(tmp_path):
    model, other = freeze(model_of(reduction=TokenMerge(r=5))), model_of(reduction=TokenMerge(r=5))
    images = images_of(model)
    nn.init.normal_(other.head.weight)
    with torch.no_grad():
        expected = other(images)
        assert not torch.allclose(model(images), expected)
        save_model(other, str(tmp_path / "model.safetensors"))
        load_model(model, str(tmp_path / "model.safetensors"))
        torch.testing.assert_close(model(images), expected)


# ---- several processes


def gradients_in_parallel(rank, address, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
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


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of gradients that two processes had together, by how they shared the model."""
    folder = tmp_path_factory.mktemp("gradients")
    torch.multiprocessing.spawn(gradients_in_parallel, (f"file://{folder / 'meeting'}", folder), nprocs=2)
    return folder


@pytest.mark.parametrize("wrap", [replicated, sharded])
def test_two_processes_have_the_gradients_of_one(wrap, folder):
    model = model_of(reduction=TokenMerge(r=5)).train()
    loss_of(model, images_of(model, BATCH), LABELS).backward()
    gradients = torch.load(folder / wrap.__name__)
    for name, parameter in model.named_parameters():
        largest = parameter.grad.abs().max().item()
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-3, atol=1e-5 * largest + 1e-9, msg=name)
