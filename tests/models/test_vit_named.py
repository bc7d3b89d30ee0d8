"""timm's Transformers by name: built, saved, built again, and read by the rest of the package."""

import json
from dataclasses import asdict

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer

import rmeeto
import toys
from rmeeto import TokenMerge
from rmeeto.cost import count
from rmeeto.errors import CheckpointError, ConfigError, RmeetoWarning, UnknownName
from rmeeto.evaluation.prediction import predict
from rmeeto.models import factory
from rmeeto.models.description import describe, read_sizes
from rmeeto.models.vit import ReducibleTransformer
from rmeeto.speed import bench
from rmeeto.viz import merged_groups
from rmeeto.viz.groups import patch_groups

NAME = "vit_tiny_patch16_224"
SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 4, "num_classes": 5}
TOME = TokenMerge(r=4, features="K", blocks="all")


def small(**options):
    torch.manual_seed(1)
    return rmeeto.create_model(NAME, reduction=TOME, **SMALL | options)


def images():
    return torch.randn(2, 3, 32, 32)


def test_a_name_becomes_a_reducible_model():
    model = small()
    assert isinstance(model, ReducibleTransformer)
    assert not model.training
    assert model.schedule.tokens == (13, 9)
    assert rmeeto.create_model(NAME, **SMALL).reduction is None
    assert small(reg_tokens=2).config.prefix == 3


def test_names_are_described_without_weights():
    described = describe("deit_small_patch16_224")
    assert (described.config.dim, described.config.tokens, described.config.architecture) == (384, 197, described.name)
    assert described.pretrained == "hf-hub:timm/deit_small_patch16_224"
    assert describe("vit_small_patch14_reg4_dinov2").config.prefix == 5
    with pytest.raises(UnknownName, match="vim_tiny"):
        describe("vim_tinny")
    with pytest.raises(UnknownName):
        describe("resnet50")
    with pytest.raises(ConfigError, match="plain block"):
        describe("vit_small_patch16_18x2_224")


def test_saved_and_built_again(tmp_path):
    x, model = images(), small(reg_tokens=1, class_token=False, global_pool="avg")
    rmeeto.save_model(model, tmp_path / "vit")
    again = rmeeto.create_model(str(tmp_path / "vit"))
    assert (again.config, again.reduction) == (model.config, TOME)
    assert torch.equal(again(x), model(x))
    assert describe(str(tmp_path / "vit")).config == model.config
    model.set_input_size((48, 48))
    rmeeto.save_model(model, tmp_path / "larger")
    larger = rmeeto.create_model(str(tmp_path / "larger"))
    assert larger.config.input_size == (3, 48, 48)
    with pytest.warns(RmeetoWarning, match="head replaced"):
        other = rmeeto.create_model(str(tmp_path / "vit"), num_classes=7)
    assert other.num_classes == 7


def test_weights_from_a_file_of_another_project(tmp_path):
    x, model = images(), small()
    torch.save({"model": model.state_dict()}, tmp_path / "official.pth")
    options = {key: value for key, value in SMALL.items() if key != "num_classes"}
    loaded = rmeeto.create_model(NAME, weights=tmp_path / "official.pth", reduction=TOME, **options)
    assert torch.equal(loaded(x), model(x))
    save_file({"blocks.0.norm1.weight": torch.ones(32)}, tmp_path / "broken.safetensors")
    with pytest.raises(CheckpointError, match="do not fit"):
        rmeeto.create_model(NAME, weights=tmp_path / "broken.safetensors", **SMALL)


def test_what_cannot_be_is_one_clear_error(tmp_path):
    with pytest.raises(ConfigError, match="does not take"):
        small(depht=3)
    with pytest.raises(ConfigError, match="no scan"):
        small(impl="cpp")
    with pytest.raises(CheckpointError, match="timm could not"):
        rmeeto.create_model(NAME, pretrained=True)
    by_hand = rmeeto.reduce(VisionTransformer(**SMALL), TOME)
    rmeeto.save_model(by_hand, tmp_path)
    with pytest.raises(ConfigError, match="by hand"):
        rmeeto.create_model(str(tmp_path))


def test_costs_come_from_sizes_alone():
    model = small(reg_tokens=2)
    config = describe(NAME).config
    assert rmeeto.flops(model).total == count(model.config, TOME).total
    assert json.loads(json.dumps(model.config.options)) == model.config.options
    whole, merged = count(config), count(config, TOME)
    assert merged.schedule.tokens[0] == 193
    assert merged.blocks[0].terms["attention"] == whole.blocks[0].terms["attention"], "it still sees every token"
    assert merged.blocks[1].terms["attention"] < whole.blocks[1].terms["attention"]
    assert merged.blocks[0].terms["mlp"] == whole.blocks[0].terms["mlp"] * 193 / 197
    assert "reduction" in merged.blocks[0].terms


def test_exact_counts_every_product_of_a_block():
    """The terms of one block against a count taken while walking over a tiny attention and MLP."""
    config = small().config
    before, after, operations = 17, 13, dict.fromkeys(("qkv", "attention", "proj", "mlp"), 0)
    for _token in range(before):
        operations["qkv"] += 2 * config.dim * 3 * config.dim
        operations["proj"] += 2 * config.dim * config.dim
        for _head in range(config.heads):
            operations["attention"] += config.head_dim  # divide what was gathered by the sum of weights
            for _key in range(before):
                operations["attention"] += 2 * config.head_dim + 5 + 2 * config.head_dim
    for _token in range(after):
        operations["mlp"] += 2 * (2 * config.dim * config.hidden)
    terms = count(config, TOME).blocks[0].terms
    assert {name: terms[name] for name in operations} == operations


def test_bench_compares_it_with_itself_unreduced():
    model = small()
    report = bench(model, [TOME], batches=[2], rounds=5, warmup=1, memory=False)
    whole, reduced = report.measurements
    assert (whole.tokens, reduced.tokens, report.impl) == (17, 9, "torch")
    assert 0 < reduced.reduction_share < 1
    assert reduced.flops_speedup > 1


def test_another_process_can_build_it_to_measure_memory():
    model = small()
    values = json.loads(json.dumps(asdict(model.config)))
    again = factory.fresh_model(read_sizes(values), TOME, model.impl)
    assert again.config == model.config


def test_retrained_saved_drawn_and_predicted(tmp_path):
    data = toys.make_folder(tmp_path / "data", train=4, val=2)
    sizes = {"img_size": 16, "patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 4}
    recipe = toys.toy_recipe(
        data,
        tmp_path / "run",
        model=NAME,
        model_options=sizes,
        weights="none",
        reduction=str(TOME),
        drop_path_rate=0.1,
        epochs=1,
        ema_decay=0.9,
    )
    unreduced, *_, trained = rmeeto.retrain(recipe).rows
    assert (unreduced.tokens, trained.tokens, trained.images) == (17, 9, 6)
    model = rmeeto.create_model(str(tmp_path / "run"))
    assert model.reduction == TOME
    picture = next((data / "val").rglob("*.png"))
    [row] = merged_groups(model, [Image.open(picture)], ["it"], [0, 1])
    assert [panel.title for panel in row.panels] == ["image", "block 0: 13 tokens", "block 1: 9 tokens"]
    [prediction] = predict(model, [picture], names=["blue", "green", "red"])
    assert prediction.error is None
    assert len(prediction.guesses) == 3


def test_groups_are_of_patches_alone():
    model = small(reg_tokens=2, depth=1)
    with torch.no_grad():
        tokens = model.trace(images()).final
    groups = patch_groups(tokens, model.config)
    assert groups.shape == (2, 4, 4)
    assert groups.min() == 3, "the first patch stays right behind class and register tokens"
    assert (groups.reshape(2, -1) == tokens.group()[:, 3:].numpy()).all()
