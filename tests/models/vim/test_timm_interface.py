"""Our models in the hands of timm's users: what timm's own tests, scripts and callers ask of a model."""

import copy
import re

import pytest
import timm
import torch
from timm.data import resolve_model_data_config
from timm.models import group_parameters
from timm.optim import param_groups_layer_decay

import rmeeto
from rmeeto.errors import ConfigError, RmeetoWarning, UnknownName
from rmeeto.models.vim.backbone import VisionMamba
from rmeeto.models.vim.zoo import ZOO
from rmeeto.reduction.tokens import Tokens

SIZES = {"img_size": 32, "patch_size": 8, "stride": 8, "dim": 16, "depth": 4, "num_classes": 5}
REGISTERS = {"registers": 2}


def build(name="vim_tiny", **options) -> VisionMamba:
    torch.manual_seed(0)
    return timm.create_model(name, **{**SIZES, **options}).eval()


def images(model, batch=2):
    return torch.randn(batch, *model.config.input_size, generator=torch.Generator().manual_seed(1))


# What timm knows of a model before it is built


def test_every_zoo_model_is_described_to_timm():
    ours = set(timm.list_models(module="timm_registry"))
    assert ours == set(ZOO)
    published = {name for name, entry in ZOO.items() if entry.hub or entry.packaged}
    assert published == set(timm.list_models(module="timm_registry", pretrained=True))
    assert ours == set(timm.list_models(module="timm_registry", name_matches_cfg=True))
    cfg = timm.get_pretrained_cfg("vim_tiny")
    assert (cfg.architecture, cfg.input_size, cfg.num_classes) == ("vim_tiny", (3, 224, 224), 1000)
    assert (cfg.hf_hub_id, cfg.hf_hub_filename) == ("hustvl/Vim-tiny-midclstok", "vim_t_midclstok_76p1acc.pth")
    assert timm.get_pretrained_cfg_value("vim_digits", "input_size") == (1, 16, 16)
    assert timm.get_pretrained_cfg("videomamba_tiny_video").input_size == (3, 8, 224, 224)


def test_a_model_that_timm_built_says_what_it_was_built_for_and_what_it_is_now():
    model = build()
    assert model.default_cfg == model.pretrained_cfg
    assert model.pretrained_cfg["architecture"] == "vim_tiny"
    assert model.pretrained_cfg["hf_hub_id"] == "hustvl/Vim-tiny-midclstok"
    assert (model.pretrained_cfg["input_size"], model.pretrained_cfg["num_classes"]) == ((3, 32, 32), 5)
    assert model.pretrained_cfg["pool_size"] == (4, 4)
    for key in (model.pretrained_cfg["first_conv"], model.pretrained_cfg["classifier"]):
        assert f"{key}.weight" in model.state_dict()
    assert resolve_model_data_config(model)["input_size"] == (3, 32, 32)


def test_an_overlay_changes_preparation_sizes_and_weights(tmp_path):
    first = build()
    torch.save(first.state_dict(), tmp_path / "own.pth")
    overlay = {"file": str(tmp_path / "own.pth"), "mean": [0.5, 0.5, 0.5], "crop_pct": 1.0, "num_classes": 5}
    options = {**SIZES, "num_classes": None}
    model = timm.create_model(
        "vim_tiny", pretrained=True, pretrained_cfg_overlay=overlay | {"license": "mit"}, **options
    )
    assert torch.equal(model(images(model)), first(images(first)))
    assert (model.config.mean, model.config.crop_pct) == ((0.5, 0.5, 0.5), 1.0)
    assert model.pretrained_cfg["license"] == "mit"
    smaller = timm.create_model("vim_tiny", pretrained_cfg_overlay={"input_size": (1, 64, 48)}, depth=1)
    assert smaller.config.input_size == (1, 64, 48)
    for refused in ({"state_dict": first.state_dict()}, {"url": "https://example.org/x.pth"}):
        with pytest.raises(ConfigError, match="file=PATH"):
            timm.create_model("vim_tiny", pretrained=True, pretrained_cfg_overlay=refused, **options)
    nowhere = {"hf_hub_id": None}
    with pytest.raises(ConfigError, match="no published weights"):
        timm.create_model("vim_tiny", pretrained=True, pretrained_cfg_overlay=nowhere, **options)


def test_published_weights_come_through_timm():
    model = timm.create_model("vim_digits", pretrained=True)
    assert model.num_classes == 10
    assert model.state_dict().keys() == rmeeto.create_model("vim_digits", pretrained=True).state_dict().keys()
    with pytest.warns(RmeetoWarning, match="head replaced"):
        other = timm.create_model("vim_digits", pretrained=True, num_classes=5)
    assert torch.equal(other.pos_embed, model.pos_embed)
    with pytest.warns(RmeetoWarning, match="head dropped"):
        assert timm.create_model("vim_digits", pretrained=True, num_classes=0)(images(model)).shape == (2, 48)


def test_weights_of_other_channels_are_adapted_as_timm_does(tmp_path):
    colour = build()
    torch.save(colour.state_dict(), tmp_path / "x.pth")
    weight = colour.patch_embed.proj.weight
    for channels in (1, 2, 5):
        with pytest.warns(RmeetoWarning, match=f"from 3 to {channels} channels"):
            adapted = build(in_chans=channels, weights=tmp_path / "x.pth")
        expected = timm.models.adapt_input_conv(channels, weight)
        torch.testing.assert_close(adapted.patch_embed.proj.weight, expected)
        assert adapted.in_chans == channels


def test_device_and_dtype_are_those_asked_for():
    model = build(device="meta", dtype=torch.bfloat16)
    assert {(p.device.type, p.dtype) for p in model.parameters()} == {("meta", torch.bfloat16)}
    model.reset_classifier(3)
    assert (model.head.weight.device.type, model.head.weight.dtype) == ("meta", torch.bfloat16)
    model.requires_grad_(False)
    model.set_input_size(64)
    model.reset_classifier(0)
    assert not any(p.requires_grad for p in model.parameters())
    assert not any(module.training for module in model.modules())


def test_an_unknown_option_is_a_type_error_as_timms_models_raise():
    for error in (TypeError, UnknownName):
        with pytest.raises(error, match="did you mean depth"):
            timm.create_model("vim_tiny", depht=3)


def test_the_overlay_of_timms_train_py_takes_the_number_of_classes_asked_for(tmp_path):
    first = build()
    torch.save(first.state_dict(), tmp_path / "own.pth")
    overlay = {"file": str(tmp_path / "own.pth"), "num_classes": -1}
    with pytest.warns(RmeetoWarning, match="head replaced"):
        assert build(pretrained=True, pretrained_cfg_overlay=overlay, num_classes=3).num_classes == 3
    assert build(pretrained=True, pretrained_cfg_overlay=overlay, num_classes=None).num_classes == 5


# Features and heads


@pytest.mark.parametrize("name", ["vim_tiny", "videomamba_tiny", "videomamba_tiny_video"])
@pytest.mark.parametrize("line", [None, "merge:r=3", "tome:r=3,features=X,blocks=1:"])
@torch.no_grad()
def test_features_are_rows_with_the_class_token_in_front_as_timms_are(name, line):
    model = build(name, **REGISTERS, reduction=line)
    x = images(model)
    features = model.forward_features(x)
    assert type(features) is torch.Tensor
    assert model.num_features == model.embed_dim == model.head_hidden_size == 16
    assert (model.num_prefix_tokens, features.shape) == (3, (2, 3 + model.config.patches, 16))
    tokens = model.encode(x)
    assert isinstance(tokens, Tokens)
    full = tokens.unmerge(tokens.x)
    assert torch.equal(features[:, :3], full[:, list(model.config.protected)])
    patches = [place for place in range(model.config.tokens) if place not in model.config.protected]
    assert torch.equal(features[:, 3:], full[:, patches])
    assert torch.equal(model.forward_head(features), model(x))
    assert torch.equal(model.forward_head(features, pre_logits=True), features[:, 0])
    again, maps = model.forward_intermediates(x)
    assert torch.equal(again, features)
    assert len(maps) == 4
    found = model.forward_intermediates(x, output_dict=True, return_prefix_tokens=True, output_fmt="NLC", norm=True)
    assert torch.equal(found["image_features"], features)
    assert torch.equal(found["image_intermediates"][-1], features[:, 3:])
    assert torch.equal(found["image_intermediates_prefix"][-1], features[:, :3])


@pytest.mark.parametrize("line", [None, "merge:r=3", "prune:r=3", "similar-merge:r=3,threshold=0.2"])
@torch.no_grad()
def test_pooling_is_by_patch_whatever_has_been_merged(line):
    model = build(**REGISTERS, reduction=line, global_pool="avg")
    x = images(model)
    tokens = model.encode(x)
    kept = (tokens.group() >= 0).clone()
    kept[:, list(model.config.protected)] = False
    full = tokens.unmerge(tokens.x)
    expected = torch.stack([rows[mask].mean(0) for rows, mask in zip(full, kept, strict=True)])
    torch.testing.assert_close(model.head(expected), model(x))
    if line is None or line.startswith("merge"):
        torch.testing.assert_close(model.forward_head(model.forward_features(x)), model(x))
    assert torch.equal(model.trace(x).logits, model.classify(model.encode(x)))
    with torch.inference_mode():
        torch.testing.assert_close(rmeeto.freeze(model)(x), model.head(expected), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_head_can_be_taken_away_with_its_pooling():
    model = build()
    x = images(model)
    features = model.forward_features(x)
    model.reset_classifier(0)
    assert torch.equal(model(x), features[:, 0])
    model.reset_classifier(0, "")
    assert torch.equal(model(x), features)
    assert torch.equal(model(x), model.forward_head(features))
    model.reset_classifier(7, "avg")
    assert (model.global_pool, model(x).shape) == ("avg", (2, 7))
    with pytest.raises(UnknownName, match="avg"):
        model.reset_classifier(7, "max")
    assert (model.global_pool, model(x).shape) == ("avg", (2, 7))
    assert build(num_classes=0, global_pool="")(x).shape == (2, 17, 16)
    assert build(global_pool="")(x).shape == (2, 17, 5)


def test_pooling_and_dropout_survive_saving(tmp_path):
    model = build(global_pool="avg", drop_rate=0.25)
    rmeeto.save_model(model, tmp_path)
    again = rmeeto.create_model(str(tmp_path))
    assert (again.global_pool, again.head_drop.p) == ("avg", 0.25)
    assert torch.equal(again(images(model)), model(images(model)))


def test_dropout_acts_before_the_head_in_training_only():
    model, seen = build(drop_rate=0.5), []
    assert model.head_drop.p == 0.5
    model.head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model(images(model))
    assert seen[0].ne(0).all()
    model.train()(images(model))
    assert 0.1 < seen[1].eq(0).float().mean() < 0.9


# Training


@pytest.mark.parametrize("name", ["vim_tiny", "videomamba_tiny_video"])
@pytest.mark.parametrize("line", [None, "merge:r=3", "merge:r=3,features=C", "merge:r=3,grouping=random", "hsa:r=3"])
def test_gradient_checkpointing_changes_no_gradient_and_holds_less(name, line):
    model = build(name, reduction=line, drop_path_rate=0.3).train()
    x, held = images(model), {}
    gradients = {}
    for enable in (False, True):
        model.set_grad_checkpointing(enable)
        model.zero_grad()
        torch.manual_seed(7)
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, kept=kept: (kept.append(t.numel()), t)[1], lambda t: t):
            loss = model(x).square().sum()
        held[enable] = sum(kept)
        loss.backward()
        gradients[enable] = {key: value.grad.clone() for key, value in model.named_parameters()}
    for key, gradient in gradients[True].items():
        torch.testing.assert_close(gradient, gradients[False][key], msg=lambda text, key=key: f"{key}: {text}")
    assert held[True] < held[False]


def test_maps_can_be_checkpointed_too():
    maps = timm.create_model("vim_tiny", **SIZES, features_only=True, out_indices=(1, 3)).train()
    x, gradients = torch.randn(2, 3, 32, 32), []
    for enable in (False, True):
        maps.set_grad_checkpointing(enable)
        maps.zero_grad()
        sum(one.square().sum() for one in maps(x)).backward()
        gradients.append(maps.model.layers[0].mixer.in_proj.weight.grad.clone())
    torch.testing.assert_close(*gradients)


def test_layer_decay_knows_blocks_as_layers():
    model = build("videomamba_tiny_video", **REGISTERS, depth=24)
    groups = param_groups_layer_decay(model, weight_decay=0.05, layer_decay=0.75)
    scales = sorted({group["lr_scale"] for group in groups})
    assert len(scales) == 26
    assert scales[0] == pytest.approx(0.75**25)
    layers = group_parameters(model, model.group_matcher(), reverse=True)
    assert {layers[name] for name in layers if re.match("cls|pos|temporal|reg|patch", name)} == {0}
    assert {layers[name] for name in layers if name.startswith("layers.3.")} == {4}
    assert layers["norm_f.weight"] == layers["layers.23.norm.weight"] == 24  # as in timm's ViTs
    assert layers["head.weight"] == 25


# Another size


@pytest.mark.parametrize("name", ["vim_tiny", "videomamba_tiny_video"])
@torch.no_grad()
def test_another_input_size_is_what_loading_at_that_size_gives(name, tmp_path):
    model = build(name, **REGISTERS, reduction="merge:r=3")
    torch.save(model.state_dict(), tmp_path / "x.pth")
    with pytest.warns(RmeetoWarning, match="resampled from 4×4 to 6×5"):
        expected = build(name, **REGISTERS, reduction="merge:r=3", img_size=(48, 40), weights=tmp_path / "x.pth")
    rmeeto.freeze(model)(images(model))
    model.set_input_size((48, 40))
    assert model.config == expected.config
    assert model.schedule == expected.schedule
    assert torch.equal(model(images(model)), expected(images(model)))
    assert model.default_cfg["input_size"][-2:] == (48, 40)
    model.set_input_size(img_size=(48, 40), patch_size=(8, 8))
    assert torch.equal(model.pos_embed, expected.pos_embed)
    with pytest.raises(ConfigError, match="patch_size="):
        model.set_input_size(patch_size=4)


@torch.no_grad()
def test_a_size_that_does_not_fit_changes_nothing():
    model = build(reduction="merge:r=8")
    before, expected = copy.deepcopy(model.state_dict()), model(images(model))
    for size in (4, 16):  # smaller than a patch; too few tokens for the reduction
        with pytest.raises(ConfigError):
            model.set_input_size(size)
    assert model.config.img_size == (32, 32)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.equal(model(images(model)), expected)


# Maps


def test_feature_extractors_are_chosen_by_timms_name():
    maps = timm.create_model("vim_tiny", **SIZES, features_only=True, feature_cls="getter")
    assert maps.default_cfg["input_size"] == (3, 32, 32)
    assert maps.default_cfg == maps.pretrained_cfg
    assert not {"num_classes", "classifier"} & maps.default_cfg.keys()
    assert len(timm.create_model("vim_tiny", depth=4, features_only=True).feature_info.channels()) == 3
    with pytest.raises(UnknownName, match="getter"):
        timm.create_model("vim_tiny", **SIZES, features_only=True, feature_cls="fx")


@pytest.mark.skipif(not hasattr(timm.models, "save_for_hf"), reason="this timm keeps its export to itself")
def test_timm_reads_back_what_it_saved_for_the_hub(tmp_path):
    model = timm.create_model("vim_digits", pretrained=True)
    timm.models.save_for_hf(model, tmp_path, model_args={"depth": 8})
    again = timm.create_model(f"local-dir:{tmp_path}", pretrained=True)
    assert torch.equal(again(images(model)), model(images(model)))


@pytest.mark.skipif(not hasattr(timm.models, "get_model_args"), reason="this timm does not remember options of models")
def test_timm_exports_what_a_model_is_now(tmp_path):
    model = build(reduction="merge:r=2")
    model.set_input_size((48, 40))
    model.reset_classifier(3, "avg")
    timm.models.save_for_hf(model, tmp_path)
    again = timm.create_model(f"local-dir:{tmp_path}", pretrained=True)
    assert again.config == model.config
    assert torch.equal(again(images(model)), model(images(model)))
