import pytest
import torch

from rmeeto import TokenMerge, create_model, freeze, thaw
from rmeeto.config import ModelConfig
from rmeeto.errors import UnsupportedInput
from rmeeto.models.layers import resize_position_embedding
from rmeeto.models.vim.backbone import VisionMamba
from rmeeto.reduction import TokenPrune, parse_reduction

TINY = ModelConfig(img_size=32, patch_size=8, stride=8, dim=16, depth=4, num_classes=5)


def tiny(reduction=None, **changes) -> VisionMamba:
    torch.manual_seed(0)
    return VisionMamba(TINY.changed(**changes), reduction).eval()


def images(batch=2):
    return torch.randn(batch, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_no_reduction_copies_nothing():
    model = tiny()
    with torch.no_grad():
        trace = model.trace(images())
        assert torch.equal(trace.logits, model(images()))
        model.reduction = TokenMerge(r=0)
        assert torch.equal(trace.logits, model(images()))
    assert trace.final.plans == ()
    assert trace.final.size is None


@pytest.mark.parametrize("reduction", [TokenMerge(r=3), TokenPrune(r=3), TokenMerge(r=2, features="delta")], ids=str)
def test_trace_and_forward_agree(reduction):
    model = tiny(reduction)
    with torch.no_grad():
        trace = model.trace(images())
        assert torch.equal(trace.logits, model(images()))
    assert tuple(tokens.length for tokens in trace.blocks) == model.schedule.tokens
    assert trace.final.group().shape == (2, 17)


def test_reduction_is_a_value_that_can_be_swapped():
    model = tiny()
    with torch.no_grad():
        whole = model(images())
        model.reduction = TokenMerge(r=5)
        reduced = model(images())
        model.reduction = None
        assert torch.equal(model(images()), whole)
    assert not torch.equal(reduced, whole)
    assert set(model.state_dict()) == set(tiny().state_dict())


def test_each_image_is_independent_of_its_batch():
    model = tiny(TokenMerge(r=3))
    with torch.no_grad():
        together = model(images(4))
        alone = torch.cat([model(image[None]) for image in images(4)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("reduction", [None, "merge:r=3", "merge:r=3,features=C", "prune:r=3", "similar-merge:r=3"])
@pytest.mark.parametrize("prepare", [freeze, thaw])
def test_no_images_are_no_logits(reduction, prepare):
    model = prepare(tiny(reduction and parse_reduction(reduction)))
    with torch.inference_mode():
        assert model(images(0)).shape == (0, 5)


def test_no_images_have_no_gradient():
    model = tiny().train()
    model(images(0)).sum().backward()
    assert not any(parameter.grad.any() for parameter in model.parameters())


def test_every_parameter_gets_a_gradient():
    model = tiny(TokenMerge(r=3)).train()
    model(images()).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_drop_path_rises_from_zero_and_acts_in_training_only():
    model = tiny(drop_path_rate=0.3)
    rates = [block.drop_path.drop_prob for block in model.layers] + [model.drop_path.drop_prob]
    assert rates == pytest.approx([0, 0, 0.1, 0.2, 0.3])
    with torch.no_grad():
        assert torch.equal(model(images()), model(images()))
        model.train()
        assert not torch.equal(model(images(8)), model(images(8)))


def test_wrong_image_shape_is_named():
    with pytest.raises(UnsupportedInput, match=r"\(b, 3, 32, 32\)"):
        tiny()(torch.randn(2, 3, 30, 32))


def test_bfloat16_autocast_stays_close():
    model = tiny(TokenMerge(r=3))
    with torch.no_grad():
        exact = model(images())
        with torch.autocast("cpu", torch.bfloat16):
            rough = model(images())
    assert (rough.float() - exact).abs().max() < 0.05 * exact.abs().max()


def test_weights_in_bfloat16_keep_a_float32_residual():
    model = tiny(TokenMerge(r=3)).bfloat16()
    with torch.no_grad():
        trace = model.trace(images().bfloat16())
    assert trace.final.residual.dtype == torch.float32
    assert trace.logits.dtype == torch.bfloat16


def test_reset_classifier():
    model = tiny()
    model.reset_classifier(9)
    assert model(images()).shape == (2, 9)
    assert model.num_classes == model.config.num_classes == 9


def test_position_table_resizing_keeps_the_class_row_in_the_middle():
    table = torch.randn(1, 17, 8)
    same = resize_position_embedding(table, (4, 4), (4, 4), old_row=8, new_row=8)
    assert torch.allclose(same, table, atol=1e-6)
    larger = resize_position_embedding(table, (4, 4), (6, 8), old_row=8, new_row=24)
    assert larger.shape == (1, 49, 8)
    assert torch.equal(larger[:, 24], table[:, 8])
    # a table that is constant over the patches stays constant
    flat = torch.ones(1, 17, 8)
    flat[:, 8] = 7
    smaller = resize_position_embedding(flat, (4, 4), (2, 2), old_row=8, new_row=2)
    assert torch.allclose(smaller[:, [0, 1, 3, 4]], torch.ones(1, 4, 8))


@pytest.mark.parametrize("name", ["vim_tiny_plus"])
def test_stride_8_has_729_patches(name):
    model = create_model(name, depth=2)
    assert model.config.grid == (27, 27)
    assert model.pos_embed.shape == (1, 730, 192)
    with torch.no_grad():
        assert model(torch.randn(1, 3, 224, 224)).shape == (1, 1000)


def test_no_weight_decay_on_embeddings_and_state_parameters():
    kept = tiny().no_weight_decay()
    assert {"pos_embed", "cls_token", "layers.0.mixer.A_log", "layers.3.mixer.D_b"} <= kept
    assert "layers.0.mixer.in_proj.weight" not in kept
