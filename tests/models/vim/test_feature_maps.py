"""Maps for detectors and segmenters: the full grid after any block, however few tokens are left."""

import pytest
import timm
import torch

import fresh
from rmeeto import TokenMerge
from rmeeto.config import ModelConfig
from rmeeto.errors import ConfigError, UnknownName
from rmeeto.models.maps import chosen_blocks
from rmeeto.models.vim.backbone import VisionMamba
from rmeeto.models.vim.feature_maps import FeatureMaps
from rmeeto.reduction import TokenPrune

IMAGE = ModelConfig(img_size=(24, 32), patch_size=8, stride=8, dim=16, depth=4, num_classes=5)
CLIP = IMAGE.changed(frames=4, tubelet=2, cls_place="first", halve=False)
BOTH = pytest.mark.parametrize("config", [IMAGE, CLIP], ids=["image", "clip"])
SIZES = {"img_size": 32, "patch_size": 8, "stride": 8, "dim": 16, "depth": 4}


def build(config, reduction=None) -> VisionMamba:
    torch.manual_seed(0)
    return VisionMamba(config, reduction).eval()


def images(config, batch=2):
    return torch.randn(batch, *config.input_size, generator=torch.Generator().manual_seed(1))


@BOTH
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize(
    "reduction",
    [None, TokenMerge(r=0), TokenMerge(r=5, blocks="all"), TokenMerge(r=3, order="odd-even"), TokenPrune(r=4)],
    ids=str,
)
@torch.no_grad()
def test_maps_against_unmerging_by_hand(config, reduction, norm):
    model, x = build(config, reduction), images(config)
    final, maps = model.forward_intermediates(x, norm=norm, return_prefix_tokens=True)
    trace = model.trace(x)
    assert torch.equal(model.forward_head(final), trace.logits)
    # A block's tokens carry the stream that entered it; the next block's residual is that and what the block added.
    for tokens, (found, cls) in zip(trace.blocks, maps, strict=True):
        stream = tokens.residual + tokens.x
        stream = model.norm_f(stream) if norm else stream
        group = tokens.group()
        for image in range(len(x)):
            places = [place for place in range(config.tokens) if place != config.cls_index]
            rows = found[image].flatten(1).T
            for row, place in zip(rows, places, strict=True):
                where = group[image, place]
                assert torch.equal(row, stream[image, where] if where >= 0 else torch.zeros_like(row))
            assert torch.equal(cls[image, 0], stream[image, tokens.cls_index[image]])
    grid = (config.time, *config.grid) if config.is_video else config.grid
    assert all(found.shape == (2, 16, *grid) for found, _ in maps)


@BOTH
@torch.no_grad()
def test_the_last_normalised_map_is_what_the_head_sees(config):
    model, x = build(config, TokenMerge(r=3)), images(config)
    final = model.encode(x)
    ((rows, cls),) = model.forward_intermediates(
        x, 1, norm=True, return_prefix_tokens=True, output_fmt="NLC", intermediates_only=True
    )
    assert torch.equal(model.head(cls[:, 0]), model(x))
    full = final.unmerge(final.x)
    assert torch.equal(rows, torch.cat([full[:, : config.cls_index], full[:, config.cls_index + 1 :]], dim=1))


@torch.no_grad()
def test_stopping_early_and_formats_give_the_same_maps():
    model, x = build(IMAGE, TokenMerge(r=3)), images(IMAGE)
    _, whole = model.forward_intermediates(x, [0, -2])
    _, early = model.forward_intermediates(x, (0, 2), stop_early=True)
    only = model.forward_intermediates(x, [2, 0], intermediates_only=True)
    flat = model.forward_intermediates(x, [0, 2], intermediates_only=True, output_fmt="NLC")
    for a, b, c, d in zip(whole, early, only, flat, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)
        assert torch.equal(a.flatten(2).transpose(1, 2), d)


def test_gradients_reach_the_patches_through_merged_maps():
    model, x = build(CLIP, TokenMerge(r=5)).train(), images(CLIP).requires_grad_()
    model.forward_intermediates(x, 1, intermediates_only=True)[0].square().sum().backward()
    assert x.grad.abs().amin((0, 1)).gt(0).any()
    assert model.layers[3].mixer.in_proj.weight.grad.abs().sum() > 0


def test_indices_count_as_timms_do():
    assert chosen_blocks(4, None) == [0, 1, 2, 3]
    assert chosen_blocks(4, 2) == [2, 3]
    assert chosen_blocks(4, [-1, 0]) == [3, 0]
    for wrong in (0, 5, [4], [-5], []):
        with pytest.raises(ConfigError, match="blocks 0 to 3"):
            chosen_blocks(4, wrong)
    with pytest.raises(UnknownName, match="NCHW"):
        build(IMAGE).forward_intermediates(images(IMAGE), output_fmt="NHWC")


@torch.no_grad()
def test_timm_builds_backbones_with_features_only():
    whole = timm.create_model("vim_tiny", **SIZES, reduction="merge:r=3").eval()
    torch.manual_seed(0)
    maps = timm.create_model("vim_tiny", **SIZES, reduction="merge:r=3", features_only=True, out_indices=(0, 2)).eval()
    assert isinstance(maps, FeatureMaps)
    assert maps.feature_info.channels() == [16, 16]
    assert maps.feature_info.reduction() == [8, 8]
    assert maps.feature_info.module_name() == ["layers.0", "layers.2"]
    kept = {name.removeprefix("model.") for name, _ in maps.named_parameters()}
    assert {name for name in whole.state_dict() if not name.startswith(("layers.3", "head", "norm_f"))} == kept
    maps.model.load_state_dict({name: whole.state_dict()[name] for name in kept})
    x = torch.randn(2, 3, 32, 32)
    expected = whole.forward_intermediates(x, [0, 2], intermediates_only=True)
    found = maps(x)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    maps.model.reduction = None
    assert not torch.equal(maps(x)[1], found[1])


def test_timm_builds_clip_backbones_too():
    maps = timm.create_model("videomamba_tiny_video", **SIZES, features_only=True, norm=True, output_fmt="NLC")
    with torch.no_grad():
        found = maps(torch.randn(1, 3, 8, 32, 32))
    assert [tuple(one.shape) for one in found] == [(1, 128, 16)] * 3
    assert {name for name, _ in maps.named_parameters() if "norm_f" in name} == {"model.norm_f.weight"}


@torch.no_grad()
def test_cutting_off_what_is_not_needed_changes_nothing_before_it():
    # a ratio and a list speak of the whole network: the blocks that stay must see what they saw
    for reduction in (TokenMerge(ratio=0.2), TokenMerge(r=[5], blocks="2:3")):
        model, x = build(IMAGE, reduction), images(IMAGE)
        before = model.forward_intermediates(x, [2], intermediates_only=True)
        assert model.prune_intermediate_layers([2], prune_norm=True) == [2]
        assert len(model.layers) == 3
        assert torch.equal(model.forward_intermediates(x, [2], intermediates_only=True)[0], before[0])
        assert model(x).shape == (2, 16)
        assert len(model.trace(x).blocks) == 3


def test_reset_classifier_takes_timms_arguments():
    model, x = build(IMAGE), images(IMAGE)
    model.reset_classifier(0, "token")
    assert (model.num_classes, model(x).shape) == (0, (2, 16))
    assert not any(name.startswith("head") for name in model.state_dict())
    model.reset_classifier(3)
    assert model(x).shape == (2, 3)
    with pytest.raises(UnknownName, match="token"):
        model.reset_classifier(3, global_pool="max")


def test_maps_compile_as_one_graph():
    code = """
import torch
from rmeeto import TokenMerge
from rmeeto.models.vim.backbone import VisionMamba
from rmeeto.config import ModelConfig
from rmeeto.models.vim.feature_maps import FeatureMaps
config = ModelConfig(img_size=32, patch_size=8, stride=8, dim=16, depth=2, frames=2, cls_place="first", halve=False)
maps = FeatureMaps(VisionMamba(config, TokenMerge(r=3, blocks="all")).eval(), 2)
clips = torch.randn(2, 3, 2, 32, 32)
with torch.no_grad():
    for ours, theirs in zip(torch.compile(maps, fullgraph=True, backend="aot_eager")(clips), maps(clips), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
"""
    fresh.run(code, quiet=True)
