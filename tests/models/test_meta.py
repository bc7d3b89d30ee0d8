"""Models without memory, on the meta device and with fake tensors: only shapes are computed."""

import pytest
import timm
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

import small_models
from rmeeto import create_model, freeze
from rmeeto.errors import UnsupportedInput
from rmeeto.models.vit import reduce
from rmeeto.reduction import METHODS, parse_reduction
from small_models import images_of

THRESHOLD = {"similar-merge", "similar-prune"}
OPTIONS = {"tome": "r=2,features=X"}
LINES = [
    f"{name}:{OPTIONS.get(name, 'r=2')}" for name in METHODS if name not in THRESHOLD | {"released", "released-vit"}
]


def model_of(name="vim_tiny", line=None, **options):
    reduction = None if line is None else parse_reduction(line)
    return small_models.model_of(name, img_size=16, reduction=reduction, **options)


def on_meta(images):
    return torch.empty(images.shape, device="meta")


def assert_logits(found, images):
    assert found.device.type == "meta"
    assert found.shape == (len(images), 7)


@pytest.mark.parametrize("line", [None, *LINES])
@pytest.mark.parametrize("name", ["vim_tiny", "videomamba_tiny"])
def test_every_method_on_the_meta_device(name, line):
    with torch.device("meta"):
        model = model_of(name, line)
    images = on_meta(images_of(model))
    logits = model.train()(images)
    assert_logits(logits, images)
    logits.sum().backward()
    assert all(parameter.grad.shape == parameter.shape for parameter in model.parameters())
    with torch.no_grad():
        assert_logits(model.eval()(images), images)
        assert_logits(freeze(model)(images), images)
    assert model(images).shape == model_of(name, line)(images_of(model)).shape


@pytest.mark.parametrize("name", sorted(THRESHOLD))
def test_a_method_whose_counts_depend_on_values_is_refused(name):
    with torch.device("meta"):
        model = model_of(line=f"{name}:r=2,threshold=-1")
    with pytest.raises(UnsupportedInput, match="tensors without values"):
        model(on_meta(images_of(model)))


def test_features_and_clips_on_the_meta_device():
    with torch.device("meta"):
        model = model_of("videomamba_tiny", "merge:r=3", frames=4)
    images = on_meta(images_of(model))
    assert_logits(model(images), images)
    maps = model.forward_intermediates(images, indices=2, intermediates_only=True)
    assert [tuple(found.shape) for found in maps] == [(2, 24, 4, 4, 4)] * 2
    assert [tokens.x.shape[1] for tokens in model.trace(images).blocks] == list(model.schedule.tokens)


def test_a_vision_transformer_on_the_meta_device():
    with torch.device("meta"):
        model = timm.create_model("deit_tiny_patch16_224", img_size=64, num_classes=7)
    model = reduce(model, parse_reduction("merge:r=2,blocks=all"))
    images = torch.empty(2, 3, 64, 64, device="meta")
    assert_logits(model(images), images)


def test_memory_comes_later():
    with torch.device("meta"):
        model = model_of(line="merge:r=2")
    real = model_of(line="merge:r=2")
    model.load_state_dict(real.state_dict(), assign=True)
    images = images_of(real)
    with torch.no_grad():
        assert torch.equal(model.eval()(images), real(images))


@pytest.mark.parametrize("line", [None, "merge:r=2", "merge:r=2,features=C", "prune:r=2"])
def test_fake_tensors(line):
    model = model_of(line=line)
    images = images_of(model)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        for ready in (model.train(), model.eval(), freeze(model)):
            logits = ready(mode.from_tensor(images))
            assert isinstance(logits, FakeTensor)
            assert logits.shape == (2, 7)
            assert logits.device.type == "cpu"
            with torch.no_grad():
                assert ready(mode.from_tensor(images)).shape == (2, 7)


def test_a_fake_model_of_official_size():
    with torch.device("meta"):
        model = create_model("vim_base", weights=None, reduction="merge:r=11")
    assert sum(parameter.numel() for parameter in model.parameters()) > 9e7
    assert model(torch.empty(64, 3, 224, 224, device="meta")).shape == (64, 1000)
