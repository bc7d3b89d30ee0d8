"""Other projects' software around our models: adapters, several processes, files of weights."""

import copy

import pytest
import torch
from safetensors.torch import load_model, save_model
from torch import nn

import launch
from gradients_in_parallel import BATCH, LABELS, loss_of, replicated, sharded
from rmeeto import TokenMerge, freeze
from small_models import images_of, model_of

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


TOGETHER = """
import os, sys
from pathlib import Path
from gradients_in_parallel import gradients_in_parallel
gradients_in_parallel(int(os.environ["RANK"]), Path(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of gradients that two processes had together, by how they shared the model."""
    folder = tmp_path_factory.mktemp("gradients")
    assert launch.run(2, TOGETHER, folder) == [0, 0]
    return folder


@pytest.mark.parametrize("wrap", [replicated, sharded])
def test_two_processes_have_the_gradients_of_one(wrap, folder):
    model = model_of(reduction=TokenMerge(r=5)).train()
    loss_of(model, images_of(model, BATCH), LABELS).backward()
    gradients = torch.load(folder / wrap.__name__)
    for name, parameter in model.named_parameters():
        largest = parameter.grad.abs().max().item()
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-3, atol=1e-5 * largest + 1e-9, msg=name)
