"""Signals of a block: they are what its layers saw, before and after a reduction, in every kind of model."""

import pytest
import timm
import torch
from torch import nn

import rmeeto
from cpp_kernels import needs_kernels
from rmeeto.analysis.signals import block_signals, middle_block, watched
from rmeeto.errors import ConfigError, UnknownName, UnsupportedInput
from small_models import images_of, model_of

VIT = {"img_size": 32, "patch_size": 4, "embed_dim": 24, "depth": 3, "num_heads": 2, "num_classes": 5}


def vim(reduction=None, **options):
    return model_of(reduction=reduction, depth=3, **options)


def vit(reduction=None, **options):
    torch.manual_seed(0)
    model = timm.models.vision_transformer.VisionTransformer(**VIT | options).eval()
    return rmeeto.reduce(model, reduction)


def all_patches(model, images, block, count):
    return block_signals(model, images, block, tokens_per_image=count)


def sorted_rows(signals, image):
    """The rows of one image side by side, in an order that does not depend on the draw."""
    rows = torch.cat([signals.x, signals.y], 1)[signals.image == image]
    return rows[rows[:, 0].argsort()]


def patches_of(tokens, x, y, image):
    """The same of what was computed by hand."""
    keep = torch.ones(x.shape[1], dtype=torch.bool)
    keep[tokens.protected[image]] = False
    if tokens.token_mask is not None:
        keep &= tokens.token_mask[image]
    rows = torch.cat([x[image], y[image]], 1)[keep]
    return rows[rows[:, 0].argsort()]


@pytest.mark.parametrize(
    "options", [{}, {"reduction": "merge:r=5,blocks=all"}, {"reduction": "prune:r=5,blocks=all"}, {"registers": 3}]
)
@torch.no_grad()
def test_those_of_a_mamba_are_its_mixers(options):
    model, block = vim(**options), 2
    images = images_of(model)
    *_, before, after = model.iter_blocks(images)
    step, entering = model.schedule.steps[block], before
    if step.r:
        entering = model.reduction.step(before, None, step)
    x, _ = model.layers[block].add_residual(entering)
    y, _ = model.layers[block].mixer(x)
    patches = after.length - after.protected.shape[1]
    signals = all_patches(model, images, block, patches)
    assert signals.x.shape == (2 * patches, 24)
    for image in range(2):
        torch.testing.assert_close(sorted_rows(signals, image), patches_of(after, x, y, image))


@pytest.mark.parametrize("block", [0, 2])
@pytest.mark.parametrize("reduction", [None, "tome:r=5"])
@torch.no_grad()
def test_those_of_a_transformer_are_its_attentions(reduction, block):
    model = vit(reduction, reg_tokens=2)
    images = torch.randn(2, 3, 32, 32)
    before = [model.embed(images), *model.iter_blocks(images)][block]
    attention = model.blocks[block].attn
    x = model.blocks[block].norm1(before.x)
    q, k, v = attention.qkv(x).reshape(2, before.length, 3, 2, 12).permute(2, 0, 3, 1, 4)
    scores = q @ k.mT * 12**-0.5 + before.sizes().log()[:, None, None]
    y = attention.proj((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
    patches = before.length - 3
    assert patches == 64 - (5 * block if reduction else 0)
    signals = all_patches(model, images, block, patches)
    for image in range(2):
        torch.testing.assert_close(sorted_rows(signals, image), patches_of(before, x, y, image))


def test_the_mean_of_an_image_is_one_sample():
    model = vim("merge:r=5,blocks=all")
    images = images_of(model, batch=3)
    every = all_patches(model, images, 2, 64 - 10)
    mean = block_signals(model, images, 2, reading="mean")
    assert mean.image.tolist() == [0, 1, 2]
    for image in range(3):
        torch.testing.assert_close(mean.x[image], every.x[every.image == image].mean(0))
        torch.testing.assert_close(mean.y[image], every.y[every.image == image].mean(0))


@pytest.mark.parametrize("network", [vim, vit])
def test_empty_slots_are_never_drawn(network):
    model = network("similar-merge:r=9,threshold=0.7,blocks=all")
    images = torch.randn(6, 3, 32, 32)
    images[0] = 0.5  # all of its patches are alike but for their positions
    counts = model.forward_counts(images)[1] - 1
    block = 2
    left = counts[:, block if network is vim else block - 1]
    assert len(left.unique()) > 1
    signals = block_signals(model, images, block, tokens_per_image=int(left.min()))
    alone = block_signals(model, images[:1], block, tokens_per_image=int(left[0]))
    mean = block_signals(model, images, block, reading="mean")
    torch.testing.assert_close(mean.x[0], alone.x.mean(0), atol=1e-5, rtol=1e-4)
    assert len(signals.x) == 6 * int(left.min())
    with pytest.raises(ConfigError, match=f"an image with {left.min()} patches left"):
        block_signals(model, images, block, tokens_per_image=int(left.min()) + 1)


def test_a_clip_has_signals_too():
    model = model_of("videomamba_tiny_video", frames=2, depth=2, reduction="merge:r=4,blocks=all")
    clips = torch.randn(2, 3, 2, 32, 32)
    assert all_patches(model, clips, 1, 2 * 64 - 4).x.shape == (2 * 124, 24)


@needs_kernels
def test_a_frozen_model_calls_its_layers_while_it_is_watched():
    model = vim("merge:r=5,blocks=all")
    images = images_of(model)
    plain = block_signals(model, images, 1)
    rmeeto.freeze(model)
    assert rmeeto.explain(model).way == "network"
    with watched(model, 1):
        explained = rmeeto.explain(model)
        assert explained.way != "network"
        assert "mixer of block 1 has a forward hook" in str(explained)
    frozen = block_signals(model, images, 1)
    for name in ("x", "y", "image"):
        torch.testing.assert_close(getattr(frozen, name), getattr(plain, name), atol=1e-4, rtol=1e-4)
    assert rmeeto.explain(model).way == "network"


@needs_kernels
def test_a_frozen_transformer_has_the_same_signals():
    model = vit("tome:r=5")
    images = torch.randn(2, 3, 32, 32)
    plain = block_signals(model, images, 1)
    frozen = block_signals(rmeeto.freeze(model), images, 1)
    torch.testing.assert_close((frozen.x, frozen.y), (plain.x, plain.y), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("network", [vim, vit])
def test_nothing_is_left_in_the_model(network):
    model = network("merge:r=5,blocks=all")
    images = torch.randn(2, 3, 32, 32)
    logits = model(images)
    block_signals(model, images, 1)
    with pytest.raises(ConfigError):
        block_signals(model, images, 1, tokens_per_image=99)
    assert not any(module._forward_hooks for module in model.modules())
    assert str(model.reduction) == "merge:r=5,blocks=all"
    assert torch.equal(model(images), logits)


def test_draws_depend_on_the_seed_and_the_image_and_not_on_the_batch(monkeypatch):
    model = vim()
    images = images_of(model, batch=5)
    drawn = block_signals(model, images, 1, seed=1)
    assert torch.equal(drawn.x, block_signals(model, images, 1, seed=1).x)
    assert not torch.equal(drawn.x, block_signals(model, images, 1, seed=2).x)
    assert drawn.image.tolist() == [image for image in range(5) for _ in range(4)]
    monkeypatch.setattr("rmeeto.analysis.signals.BATCH", 2)
    torch.testing.assert_close(block_signals(model, images, 1, seed=1).x, drawn.x)


@pytest.mark.parametrize(("depth", "block"), [(12, 6), (24, 13), (8, 4), (1, 0)])
def test_the_middle_block_is_the_papers(depth, block):
    assert middle_block(model_of(depth=depth)) == block


def test_what_has_no_signals_is_refused_with_the_reason():
    model, images = vim(), torch.randn(2, 3, 32, 32)
    with pytest.raises(ConfigError, match="block is at least 0, at most 2"):
        block_signals(model, images, 3)
    with pytest.raises(ConfigError, match="block is at least 0"):
        block_signals(model, images, -1)
    with pytest.raises(UnknownName, match="did you mean tokens"):
        block_signals(model, images, 0, reading="token")
    with pytest.raises(ConfigError, match=r"call rmeeto\.reduce\(model, None\)"):
        block_signals(nn.Linear(3, 3), images, 0)
    with pytest.raises(ConfigError, match="training mode"):
        block_signals(vim().train(), images, 0)
    with pytest.raises(UnsupportedInput, match="at least one"):
        block_signals(model, images[:0], 0)
    with pytest.raises(UnsupportedInput, match="list"):
        block_signals(model, [1], 0)
    model.layers[1] = nn.Identity()
    with pytest.raises(ConfigError, match=r"neither layers\.1\.mixer"):
        block_signals(model, images, 1)
