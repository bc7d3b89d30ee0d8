"""Frozen Transformers: their packed linear layers are never stale either."""

import copy

import pytest
import timm
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from rmeeto import freeze, thaw
from rmeeto.models.layers.linear import is_frozen_layer, packing_dtypes
from rmeeto.models.vit import reduce

pytestmark = pytest.mark.skipif(
    torch.float32 not in packing_dtypes(), reason="PyTorch has no oneDNN here, which packs the weights"
)


def transformer(reduction="merge:r=3,features=K,blocks=all", seed=0):
    torch.manual_seed(seed)
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2, "num_classes": 5}
    model = timm.models.VisionTransformer(**sizes).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return reduce(model, reduction)


def logits(model):
    torch.manual_seed(5)
    with torch.inference_mode():
        return model(torch.randn(2, 3, 32, 32))


def qkv(model):
    return model.blocks[1].attn.qkv


def load(model):
    model.load_state_dict(transformer(seed=1).state_dict())


def load_a_layer(model):
    qkv(model).load_state_dict(qkv(transformer(seed=1)).state_dict())


def load_by_assigning(model):
    model.load_state_dict(transformer(seed=1).state_dict(), assign=True)


def assign_a_layer(model):
    model.blocks[1].attn.qkv = qkv(transformer(seed=1))


def assign_a_weight(model):
    qkv(model).weight = nn.Parameter(-qkv(model).weight.detach())


def assign_a_bias(model):
    qkv(model).bias = nn.Parameter(-qkv(model).bias.detach())


def one_value_in_place(model):
    with torch.no_grad():
        qkv(model).weight[-1, 3] = 9


def data_in_place(model):
    model.blocks[0].mlp.fc1.weight.data.mul_(-2)


def replace_data(model):
    qkv(model).weight.data = -qkv(model).weight.data


def fused_step(model):
    for parameter in model.parameters():
        parameter.grad = torch.sin(torch.arange(parameter.numel())).view_as(parameter)
    torch.optim.AdamW(model.parameters(), lr=0.1, fused=True).step()


def train_and_change(model):
    model.train()
    qkv(model).weight.data[-1].add_(1)
    model.eval()
    thaw(model)


def parametrise(model):
    parametrizations.spectral_norm(qkv(model))


def prune_a_layer(model):
    prune.l1_unstructured(model.blocks[1].mlp.fc2, "weight", amount=0.5)


def hook(model):
    qkv(model).register_forward_hook(lambda module, inputs, output: -output)


def replace_forward(model):
    run = qkv(model).forward
    qkv(model).forward = lambda x: -run(x)


def double_and_back(model):
    model.double().float()
    qkv(model).weight.data.mul_(-1)


@pytest.mark.parametrize("reduction", [None, "merge:r=3,features=K,blocks=all"])
@pytest.mark.parametrize(
    "change",
    [
        *(load, load_a_layer, load_by_assigning, assign_a_layer, assign_a_weight, assign_a_bias, one_value_in_place),
        *(data_in_place, replace_data, fused_step, train_and_change, parametrise, prune_a_layer, hook),
        *(replace_forward, double_and_back),
    ],
)
def test_a_change_takes_effect_at_the_next_call(change, reduction):
    model = freeze(transformer(reduction))
    before = logits(model)
    assert any(module.forward.packed for module in model.modules() if is_frozen_layer(module))
    change(model)
    after = logits(model)
    torch.testing.assert_close(after, logits(thaw(model)), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(after, before, rtol=1e-3, atol=1e-3)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.skipif(torch.backends.quantized.engine == "none", reason="this PyTorch does not quantise")
@pytest.mark.parametrize("inplace", [False, True])
def test_a_frozen_one_can_be_quantised(inplace):
    model = freeze(transformer())
    exact = logits(model)
    quantised = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, inplace=inplace)
    assert not [module for module in quantised.modules() if type(module) is nn.Linear]
    found = logits(quantised)
    assert not torch.equal(found, exact)
    torch.testing.assert_close(found, exact, rtol=0.1, atol=0.1 * exact.abs().max().item())


def test_a_copy_starts_thawed_and_goes_its_own_way():
    model = freeze(transformer())
    before = logits(model)
    other = copy.deepcopy(model)
    one_value_in_place(other)
    assert not any(map(is_frozen_layer, other.modules()))
    assert not torch.allclose(logits(other), before)
    assert logits(model).equal(before)
