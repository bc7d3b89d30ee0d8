"""The model as one graph, in a fresh process each: compile and export are then the first thing that happens.

The tracing is what can break; only one test waits for Inductor to generate and build code.
"""

import pytest

import fresh
from rmeeto.ops.impl import cpp

SETUP = """
import torch
from rmeeto import TokenMerge
from rmeeto.models.vim.backbone import VisionMamba
from rmeeto.config import ModelConfig
torch.manual_seed(0)
config = ModelConfig(img_size=32, patch_size=8, stride=8, dim=16, depth=3, num_classes=5)
model = VisionMamba(config, {reduction}).eval()
images = torch.randn(2, 3, 32, 32)
"""

CLIPS = """
config = config.changed(depth=2, frames=4, tubelet=2, cls_place="first", halve=False)
model = VisionMamba(config, {reduction}).eval()
images = torch.randn(2, 3, 4, 32, 32)
"""

NEAR = """
config = config.changed(registers=3)
model = VisionMamba(config, TokenMerge(r=7, blocks="all", frames=0)).eval()
"""

COMPILE = """
with torch.no_grad():
    compiled = torch.compile(model, fullgraph=True, backend="{backend}")(images)
    torch.testing.assert_close(compiled, model(images), rtol=1e-4, atol=1e-5)
"""

BACKWARD = """
model.train()
torch.compile(model, fullgraph=True, backend="aot_eager")(images).square().sum().backward()
compiled = [p.grad.clone() for p in model.parameters()]
model.zero_grad()
model(images).square().sum().backward()
for ours, parameter in zip(compiled, model.parameters()):
    torch.testing.assert_close(ours, parameter.grad, rtol=1e-3, atol=1e-5)
"""

EXPORT = """
batch = torch.export.Dim("batch", min=1, max=64)
program = torch.export.export(model, (images,), dynamic_shapes=({0: batch},), strict=False)
with torch.no_grad():
    more = torch.randn(5, *config.input_size)
    torch.testing.assert_close(program.module()(more), model(more), rtol=1e-4, atol=1e-5)
"""


def run(code: str, **fields: str) -> None:
    for name, value in fields.items():
        code = code.replace(f"{{{name}}}", value)
    fresh.run(code, quiet=True)


@pytest.mark.parametrize("reduction", ["TokenMerge(r=3)", "TokenMerge(r=3, features='B', op='max', order='odd-even')"])
def test_compile_fullgraph_forward_and_backward(reduction):
    run(SETUP + COMPILE + BACKWARD, reduction=reduction, backend="aot_eager")


@pytest.mark.skipif(cpp.absence() is not None, reason="Inductor needs a compiler, and there was none at installation")
def test_compile_with_inductor():
    run(SETUP + COMPILE, reduction="TokenMerge(r=3)", backend="inductor")


@pytest.mark.parametrize("reduction", ["None", "TokenMerge(r=3)"])
def test_export_with_a_dynamic_batch(reduction):
    run(SETUP + EXPORT, reduction=reduction)


def test_clip_models_compile_and_export():
    run(SETUP + CLIPS + COMPILE, reduction="None", backend="aot_eager")
    run(SETUP + CLIPS + COMPILE + EXPORT, reduction="TokenMerge(r=7, blocks='all')", backend="aot_eager")
    run(SETUP + CLIPS + NEAR + COMPILE + EXPORT, reduction="None", backend="aot_eager")
