"""Registers: learned tokens among the patches that no reduction touches (Mamba-R)."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import rmeeto
from rmeeto import TokenMerge, create_model, save_model
from rmeeto.config import DynamicConfig, ModelConfig
from rmeeto.errors import CheckpointError, ConfigError, RmeetoWarning
from rmeeto.models.dyvm import DynamicMamba
from rmeeto.models.layers import join_tokens, split_tokens
from rmeeto.models.vim.backbone import VisionMamba
from rmeeto.reduction import parse_reduction
from rmeeto.viz.groups import clip_groups, patch_groups

SIZES = {"img_size": (16, 24), "patch_size": 4, "stride": 4, "dim": 16, "depth": 4, "state": 4, "num_classes": 3}
IMAGE = ModelConfig(**SIZES, registers=4)
CLIP = IMAGE.changed(frames=4, tubelet=2, cls_place="first", halve=False)
BOTH = pytest.mark.parametrize("config", [IMAGE, CLIP], ids=["image", "clip"])
METHODS = [
    "merge:r=4",
    "merge:r=4,order=dropped,shuffle=0.5",
    "merge:r=4,window=1,features=B",
    "prune:r=4",
    "evit:r=4,fused=True",
    "hsa:r=4",
    "mtr:r=4",
    "utr:r=4",
    "stm:r=2,guard=1",
    "pitome:r=4",
    "tofu:r=4",
    "famba:r=4",
    "random-merge:r=4",
]


def build(config, reduction=None) -> VisionMamba:
    torch.manual_seed(0)
    return VisionMamba(config, reduction).eval()


def pictures(config, batch=2):
    return torch.randn(batch, *config.input_size, generator=torch.Generator().manual_seed(1))


def naive_layout(patches: int, cls_cut: int, registers: int) -> list:
    """The sequence, patch by patch: numbers of patches, ``"cls"`` and ``"r0"``, ``"r1"`` …"""
    sequence = []
    for cut in range(patches + 1):
        sequence += ["cls"] if cut == cls_cut else []
        sequence += [f"r{k}" for k in range(registers) if (k + 1) * patches // (registers + 1) == cut]
        sequence += [cut] if cut < patches else []
    return sequence


@pytest.mark.parametrize("registers", [0, 1, 2, 3, 4, 12, 40])
@pytest.mark.parametrize("cls_place", ["middle", "first"])
@pytest.mark.parametrize("img_size", [(16, 24), (12, 12), (4, 4)])
def test_layout_against_a_loop(registers, cls_place, img_size):
    config = IMAGE.changed(registers=registers, cls_place=cls_place, img_size=img_size)
    sequence = naive_layout(config.patches, config.patches // 2 if cls_place == "middle" else 0, registers)
    assert config.tokens == len(sequence)
    assert list(config.protected) == [sequence.index(name) for name in ("cls", *(f"r{k}" for k in range(registers)))]
    assert config.cls_index == sequence.index("cls")


def test_registers_spread_evenly():
    """An even number never falls on the class token in the middle, and runs differ by one patch at most."""
    for registers in (2, 4, 12):
        config = ModelConfig(registers=registers)
        edges = [-1, *sorted(config.protected[1:]), config.tokens]
        patches = [place for place in range(config.tokens) if place != config.cls_index]
        runs = [sum(a < place < b for place in patches) for a, b in pairwise(edges)]
        assert sum(runs) == 196
        assert max(runs) - min(runs) <= 1
        assert config.cls_index not in {place + 1 for place in config.protected[1:]}


@BOTH
def test_embedding_against_a_loop(config):
    model, bare = build(config), build(config.changed(registers=0))
    assert model.reg_token.shape == (1, 4, 16)
    tokens = model.embed(pictures(config))
    expected = bare.embed(pictures(config))
    patches = [row for place, row in enumerate(expected.x[0]) if place != bare.config.cls_index]
    names = naive_layout(config.patches, 0 if config.is_video else config.patches // 2, 4)
    for row, name in zip(tokens.x[0], names, strict=True):
        wanted = {"cls": expected.x[0, bare.config.cls_index]} | {f"r{k}": model.reg_token[0, k] for k in range(4)}
        assert torch.equal(row, wanted[name] if name in wanted else patches[name])
    assert tokens.protected.tolist() == [list(config.protected)] * 2
    assert tokens.length == config.tokens == model.schedule.start == config.patches + 5


@BOTH
def test_without_registers_nothing_changes(config):
    """Weights, keys and results; and the other weights of a model with registers are drawn as without."""
    with_registers, without = build(config), build(config.changed(registers=0))
    assert set(with_registers.state_dict()) - set(without.state_dict()) == {"reg_token"}
    assert "reg_token" not in dict(without.named_parameters())
    for name, value in without.state_dict().items():
        assert torch.equal(with_registers.state_dict()[name], value)
    config = without.config
    tokens, patches = without.embed(pictures(config)), without.patch_embed(pictures(config))
    rows = torch.cat([without.pos_embed[:, : config.cls_row], without.pos_embed[:, config.cls_row + 1 :]], dim=1)
    patches = patches + rows[:, None]
    if config.is_video:
        patches = patches + without.temporal_pos_embedding[:, :, None]
    cls = without.cls_token + without.pos_embed[:, config.cls_row : config.cls_row + 1]
    patches, place = patches.flatten(1, 2), config.cls_index
    assert torch.equal(tokens.x, torch.cat([patches[:, :place], cls.expand(2, -1, -1), patches[:, place:]], dim=1))
    assert tokens.protected.tolist() == [[place]] * 2


@BOTH
@pytest.mark.parametrize("line", METHODS)
@torch.no_grad()
def test_no_reduction_touches_them_over_all_blocks(config, line):
    model = build(config, parse_reduction(f"{line},blocks=all"))
    trace = model.trace(pictures(config))
    assert [tokens.length for tokens in trace.blocks] == list(model.schedule.tokens)
    for tokens in (*trace.blocks, trace.final):
        group = tokens.group()
        for image in range(2):
            where = group[image, list(config.protected)]
            assert torch.equal(where, tokens.protected[image])  # they are found where the tokens say that they are
            assert len(where.unique()) == 5
            assert (group[image] == where[:, None]).sum(1).tolist() == [1] * 5  # and nothing has joined them
            assert tokens.sizes()[image, where].tolist() == [1] * 5
    assert trace.final.length == model.schedule.tokens[-1] < config.tokens


@BOTH
@torch.no_grad()
def test_their_values_stay_through_a_step(config):
    model = build(config)
    tokens = model.embed(pictures(config))
    once = TokenMerge(r=8, window=1).step(tokens, None, TokenMerge(r=8).schedule(rmeeto.cost.stack_of(config)).steps[2])
    values = once.x.gather(1, once.protected[..., None].expand(-1, -1, 16))
    assert torch.equal(values[:, 1:], model.reg_token.expand(2, -1, -1))


@BOTH
def test_gradients_reach_every_register(config):
    """Through the class token alone, which is all that the head reads."""
    model = build(config, TokenMerge(r=4)).train()
    model(pictures(config)).square().sum().backward()
    assert (model.reg_token.grad.abs().sum(-1) > 0).all()
    assert "reg_token" in model.no_weight_decay()


@BOTH
@torch.no_grad()
def test_the_head_reads_the_class_token(config):
    model = build(config, TokenMerge(r=4))
    trace = model.trace(pictures(config))
    cls = torch.stack([trace.final.x[image, trace.final.group()[image, config.cls_index]] for image in range(2)])
    torch.testing.assert_close(model.head(cls), trace.logits)


@BOTH
@torch.no_grad()
def test_frames_and_maps_do_not_count_them(config):
    model = build(config, TokenMerge(r=6, **({"frames": 0} if config.is_video else {})))
    _, maps = model.forward_intermediates(pictures(config), return_prefix_tokens=True)
    trace = model.trace(pictures(config))
    for tokens, (found, prefix) in zip(trace.blocks, maps, strict=True):
        stream = tokens.unmerge(tokens.residual + tokens.x)
        assert torch.equal(prefix, stream[:, list(config.protected)])
        places = [place for place in range(config.tokens) if place not in config.protected]
        assert torch.equal(found.flatten(2).mT, stream[:, places])
    assert maps[0][1].shape == (2, 5, 16)
    if config.is_video:
        group = clip_groups(trace.final, config)
        assert group.shape == (2, 2, 4, 6)
        assert not set(group[0, 0].ravel()) & set(group[0, 1].ravel())
    else:
        groups = patch_groups(trace.final, config)
        assert groups.shape == (2, 4, 6)
        assert set(groups[0].ravel()) == set(range(trace.final.length)) - set(trace.final.protected[0].tolist())


def test_unreduced_pictures_read_in_order():
    expected = np.delete(np.arange(IMAGE.tokens), IMAGE.protected).reshape(1, 4, 6)
    assert (patch_groups(build(IMAGE).embed(pictures(IMAGE, 1)), IMAGE) == expected).all()


def test_schedules_and_flops_count_them():
    model, bare = build(IMAGE, TokenMerge(r=4)), build(IMAGE.changed(registers=0), TokenMerge(r=4))
    assert [a - b for a, b in zip(model.schedule.tokens, bare.schedule.tokens, strict=True)] == [4] * 4
    with pytest.raises(ConfigError, match="at most half of the patches, 12"):
        model.reduction = TokenMerge(r=13)
    cost, without = rmeeto.flops(model), rmeeto.flops(bare)
    assert cost.blocks[2].terms["reduction"] == without.blocks[2].terms["reduction"]  # as many patches are compared
    assert cost.terms["in_proj"] * sum(bare.schedule.tokens) == without.terms["in_proj"] * sum(model.schedule.tokens)
    for name in ("patch embedding", "position table", "head"):
        assert cost.outside[name] == without.outside[name]


def test_splitting_and_joining_undo_each_other():
    rows = torch.randn(2, 9, 3)
    for places in ((4,), (0, 8), (5, 0, 4), tuple(range(9))):
        others, listed = split_tokens(rows, places)
        assert torch.equal(listed, rows[:, list(places)])
        assert torch.equal(join_tokens(others, listed, places), rows)


def test_a_saved_model_comes_back(tmp_path):
    model = build(IMAGE, TokenMerge(r=4))
    save_model(model, tmp_path)
    again = create_model(str(tmp_path))
    assert again.config == model.config
    assert torch.equal(again(pictures(IMAGE)), model(pictures(IMAGE)))


def test_weights_without_registers_get_fresh_ones_aloud(tmp_path):
    bare = build(IMAGE.changed(registers=0))
    save_file(bare.state_dict(), tmp_path / "bare.safetensors")
    with pytest.warns(RmeetoWarning, match="4 fresh registers") as caught:
        model = create_model("vim_tiny", weights=tmp_path / "bare.safetensors", **SIZES, registers=4)
    assert [warning.filename for warning in caught] == [__file__]
    assert model.reg_token.abs().sum() > 0
    assert torch.equal(model.layers[1].mixer.D, bare.layers[1].mixer.D)


def test_weights_with_registers_say_how_many(tmp_path):
    model = build(IMAGE)
    save_file(model.state_dict(), tmp_path / "x.safetensors")
    again = create_model("vim_tiny", weights=tmp_path / "x.safetensors", **SIZES)
    assert again.config.registers == 4
    assert torch.equal(again(pictures(IMAGE)), model(pictures(IMAGE)))
    with pytest.raises(CheckpointError, match=r"! reg_token model \(1, 2, 16\), file \(1, 4, 16\)"):
        create_model("vim_tiny", weights=tmp_path / "x.safetensors", **SIZES, registers=2)
    with pytest.raises(CheckpointError, match=r"\+ reg_token"):
        create_model("vim_tiny", weights=tmp_path / "x.safetensors", **SIZES, registers=0)


def test_what_registers_are_not_for():
    with pytest.raises(ConfigError, match="0 registers is the least"):
        ModelConfig(registers=-1)
    with pytest.raises(ConfigError, match="position of registers"):
        DynamicMamba(build(IMAGE), DynamicConfig())
    with pytest.raises(ConfigError, match="5 protected tokens"):
        build(IMAGE, parse_reduction("released:r=2"))
    assert create_model("vim_tiny", registers=4).schedule.start == 201
