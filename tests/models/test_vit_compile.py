"""Reduced Transformers as one graph, in a fresh process: compile and export are then the first thing that happens."""

import fresh

CODE = """
import torch
from timm.models.vision_transformer import VisionTransformer
from rmeeto.models.vit import reduce

def check(pool, reduction):
    torch.manual_seed(0)
    sizes = dict(img_size=16, patch_size=4, embed_dim=32, depth=2, num_heads=4, num_classes=5, reg_tokens=1)
    model = reduce(VisionTransformer(**sizes, global_pool=pool).eval(), reduction)
    images, more = torch.randn(2, 3, 16, 16), torch.randn(5, 3, 16, 16)
    logits = torch.compile(model, fullgraph=True, backend="aot_eager")(images)
    logits.square().sum().backward()
    compiled = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    plain = model(images)
    torch.testing.assert_close(logits, plain, rtol=1e-4, atol=1e-5)
    plain.square().sum().backward()
    for ours, parameter in zip(compiled, model.parameters()):
        torch.testing.assert_close(ours, parameter.grad, rtol=1e-3, atol=1e-5)
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(model, (images,), dynamic_shapes=({0: batch},), strict=False)
    torch.testing.assert_close(program.module()(more), model(more), rtol=1e-4, atol=1e-5)

check("token", "merge:r=4,features=K,blocks=all,order=dropped")
check("avg", "prune:r=4,blocks=all")
"""


def test_forward_backward_and_export():
    fresh.run(CODE, quiet=True)
