"""A recorded forward pass; what needs a GPU waits for one."""

import pytest
import torch

from rmeeto import TokenMerge, create_model, freeze
from rmeeto.errors import ConfigError, UnsupportedInput
from rmeeto.models.inference.cuda_graph import CudaGraph
from rmeeto.reduction import parse_reduction
from rmeeto.speed import bench

TOY = {"img_size": 32, "patch_size": 4, "stride": 4, "dim": 32, "depth": 4, "num_classes": 7}
needs_device = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


def model_of(line="merge:r=5"):
    torch.manual_seed(0)
    return freeze(create_model("vim_tiny", weights=None, reduction=parse_reduction(line), **TOY))


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (model_of(), "on cpu"),
        (model_of().train(), "training"),
        (model_of("similar-merge:r=5,threshold=0.5"), "depends on the images"),
    ],
)
def test_what_cannot_be_recorded_is_explained(model, why):
    with pytest.raises(ConfigError, match=why):
        CudaGraph(model, torch.randn(1, 3, 32, 32))


def test_bench_refuses_to_record_without_a_gpu():
    with pytest.raises(ConfigError, match="only a GPU"):
        bench(model_of(), [TokenMerge(r=3)], batches=[1], running="recorded", device="cpu", memory=False)


@pytest.mark.gpu
@needs_device
@pytest.mark.parametrize("line", ["none", "merge:r=5", "merge:r=5,features=C", "prune:r=5", "hsa:r=3", "pitome:r=5"])
@pytest.mark.parametrize("bfloat16", [False, True])
def test_what_was_recorded_is_repeated(line, bfloat16):
    model = model_of(line).cuda()
    first, second = torch.randn(2, 3, 3, 32, 32, device="cuda").unbind()
    with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16, enabled=bfloat16):
        recorded = CudaGraph(model, first)
        for images in (second, first):
            torch.testing.assert_close(recorded(images), model(images), rtol=1e-3, atol=1e-3)


@pytest.mark.gpu
@needs_device
def test_another_shape_is_refused():
    recorded = CudaGraph(model_of().cuda(), torch.randn(2, 3, 32, 32, device="cuda"))
    with pytest.raises(UnsupportedInput, match="recorded with"):
        recorded(torch.randn(1, 3, 32, 32, device="cuda"))
