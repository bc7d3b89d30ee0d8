"""Every method on every network it can reduce: forward, backward, and as one graph."""

import pytest
import timm
import torch

import fresh
import rmeeto
from rmeeto.config import ModelConfig
from rmeeto.errors import ConfigError
from rmeeto.models.vim.backbone import VisionMamba
from rmeeto.models.vit import reduce
from rmeeto.reduction import METHODS, parse_reduction

LINES = [
    "merge:r=2",
    "merge:r=2,stretch=0.5",
    "merge:r=2,frames=0",
    "merge:r=2,radius=1",
    "prune:r=2",
    "prune:r=2,radius=1",
    "evit:r=2",
    "evit:r=2,features=X",
    "evit:r=2,features=X,fused=True",
    "hsa:r=2",
    "hsa:r=2,missing=last",
    "mtr:r=2",
    "utr:r=2",
    "utr:r=2,features=X",
    "stm:r=2,guard=1",
    "pitome:r=2",
    "tofu:r=2",
    "tome:r=2,features=X",
    "famba:r=2",
    "random-prune:r=2",
    "random-merge:r=2",
    "similar-merge:r=2,threshold=-1",
    "similar-prune:r=2,threshold=-1",
]
SIZES = {"img_size": 16, "patch_size": 4, "stride": 4, "dim": 8, "depth": 3, "state": 4, "num_classes": 3}
CLIPS_ONLY = {"merge:r=2,frames=0"}
MAMBA_ONLY = {"evit:r=2", "hsa:r=2", "hsa:r=2,missing=last", "mtr:r=2", "utr:r=2", "merge:r=2,stretch=0.5"}


def vim():
    return VisionMamba(ModelConfig(**SIZES)), torch.randn(2, 3, 16, 16)


def videomamba_image():
    return VisionMamba(ModelConfig(**SIZES, halve=False, cls_place="first")), torch.randn(2, 3, 16, 16)


def videomamba_video():
    config = ModelConfig(**SIZES, halve=False, cls_place="first", frames=2)
    return VisionMamba(config), torch.randn(2, 3, 2, 16, 16)


def vit():
    options = {"img_size": 16, "patch_size": 4, "embed_dim": 8, "depth": 3, "num_heads": 2, "num_classes": 3}
    return reduce(timm.models.VisionTransformer(**options), None), torch.randn(2, 3, 16, 16)


NETWORKS = [vim, videomamba_image, videomamba_video, vit]


def test_every_method_is_here():
    assert {line.partition(":")[0] for line in LINES} == {name for name in METHODS if not name.startswith("released")}


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.__name__)
def test_forward_and_backward(network, line):
    model, pictures = network()
    reduction = parse_reduction(f"{line},blocks=all")
    refusals = []
    if network is not videomamba_video and line in CLIPS_ONLY:
        refusals.append("an image has no frames")
    if network is vit and line in MAMBA_ONLY:
        refusals.append("does not compute")
    for refusal in refusals:
        with pytest.raises(ConfigError, match=refusal):
            model.reduction = reduction
    if refusals:
        return
    model.reduction = reduction
    trace = model.trace(pictures)
    assert [tokens.length for tokens in trace.blocks] == list(model.schedule.tokens)
    assert trace.final.length == model.schedule.start - 2 * sum(count > 0 for count in model.schedule.counts)
    trace.logits.square().sum().backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    assert gradients["patch_embed.proj.weight"].abs().sum() > 0
    assert rmeeto.flops(model).total > 0


STEPS = """
import torch
from rmeeto.reduction import parse_reduction
from rmeeto.reduction.tokens import Tokens
from rmeeto.reduction.protocol import Step
from rmeeto.reduction.tokens import Features

x, residual = torch.randn(2, 2, 18, 6, requires_grad=True)
pairs = [tuple(torch.randn(2, 2, 18, 6)) for _ in range(4)]
features = Features(*pairs, tuple(torch.randn(2, 6)))

def step(x, residual):
    tokens = Tokens(x, residual, torch.tensor([[3], [17]]))
    tokens = method.step(tokens, features, Step(3, block=3, depth=6, time=2, grid=(3, 3)))
    time = () if tokens.timing is None else tokens.timing.steps(tokens.x.exp(), tokens.x, reverse=True)
    return (tokens.x, tokens.residual, tokens.protected, tokens.sizes(), *time)

for line in {lines}:
    method = parse_reduction(line)
    torch.manual_seed(1)
    plain = step(x, residual)
    torch.manual_seed(1)
    compiled = torch.compile(step, fullgraph=True, backend="eager")(x, residual)
    torch.testing.assert_close(compiled, plain, msg=line)
    ours, theirs = (torch.autograd.grad((out[0] * out[1]).sum(), (x, residual)) for out in (compiled, plain))
    torch.testing.assert_close(ours, theirs, msg=line)
    torch._dynamo.reset()
"""

WHOLE = """
import torch
from rmeeto.reduction import parse_reduction
from rmeeto.config import ModelConfig
from rmeeto.models.vim.backbone import VisionMamba

model = VisionMamba(ModelConfig(**{sizes}), parse_reduction("hsa:r=2,blocks=1:2"))
pictures = torch.randn(2, 3, 16, 16)
torch.testing.assert_close(torch.compile(model, fullgraph=True, backend="aot_eager")(pictures), model(pictures))
"""


def run(code: str, **fields: object) -> None:
    for name, value in fields.items():
        code = code.replace(f"{{{name}}}", repr(value))
    fresh.run(code, quiet=True)


def test_every_step_is_one_graph():
    """Except methods whose shapes depend on the images."""
    run(STEPS, lines=[line for line in LINES if not parse_reduction(line).varies])


def test_a_network_with_gaps_in_time_is_one_graph():
    run(WHOLE, sizes=SIZES | {"depth": 2})
