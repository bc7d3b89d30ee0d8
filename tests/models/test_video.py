"""Clip models: a clip differs from an image in its embedding and in nothing else."""

import pytest
import torch

from rmeeto import TokenMerge, create_model, flops
from rmeeto.config import ModelConfig
from rmeeto.errors import ConfigError, UnknownName, UnsupportedInput
from rmeeto.models.layers import PatchEmbed, inflate, resize_temporal_embedding
from rmeeto.models.vim.backbone import VisionMamba
from rmeeto.reduction.protocol import Stack

TINY = ModelConfig(
    img_size=(24, 32),
    patch_size=8,
    stride=8,
    frames=6,
    tubelet=2,
    dim=16,
    depth=4,
    num_classes=5,
    cls_place="first",
    halve=False,
)


def tiny(reduction=None, **changes) -> VisionMamba:
    torch.manual_seed(0)
    model = VisionMamba(TINY.changed(**changes), reduction).eval()
    if model.temporal_pos_embedding is not None:
        torch.nn.init.normal_(model.temporal_pos_embedding)
    return model


def clips(config=TINY, batch=2):
    return torch.randn(batch, *config.input_size, generator=torch.Generator().manual_seed(1))


def naive_embedding(model: VisionMamba, clip: torch.Tensor) -> list[torch.Tensor]:
    """One clip's tokens, patch by patch: project, add the place in the frame, add the frame."""
    config, (rows, columns) = model.config, model.config.grid
    p, s, tubelet = config.patch_size, config.stride, config.tubelet
    weight, bias = model.patch_embed.proj.weight, model.patch_embed.proj.bias
    cls_row = rows * columns // 2 if config.cls_place == "middle" else 0
    places = [row for row in range(rows * columns + 1) if row != cls_row]
    tokens = []
    for t in range(config.time):
        for i in range(rows):
            for j in range(columns):
                frames = clip[:, t * tubelet : (t + 1) * tubelet] if config.is_video else clip
                cut = frames[..., i * s : i * s + p, j * s : j * s + p]
                token = (weight * cut).flatten(1).sum(1) + bias + model.pos_embed[0, places[i * columns + j]]
                if config.is_video:
                    token = token + model.temporal_pos_embedding[0, t]
                tokens.append(token)
    where = len(tokens) // 2 if config.cls_place == "middle" else 0
    return [*tokens[:where], model.cls_token[0, 0] + model.pos_embed[0, cls_row], *tokens[where:]]


@pytest.mark.parametrize("cls_place", ["first", "middle"])
@pytest.mark.parametrize(
    "changes", [{}, {"tubelet": 1}, {"tubelet": 3, "stride": 4}, {"frames": 1, "tubelet": 1}], ids=str
)
def test_embedding_against_a_loop_over_patches(changes, cls_place):
    model = tiny(cls_place=cls_place, **changes).double()
    clip = clips(model.config, 1).double()
    with torch.no_grad():
        tokens = model.embed(clip)
        expected = torch.stack(naive_embedding(model, clip[0]))
    torch.testing.assert_close(tokens.x[0], expected, rtol=0, atol=1e-12)
    assert tokens.length == model.config.tokens == model.schedule.start
    assert tokens.cls_index.tolist() == [model.config.cls_index]


def test_tokens_and_positions_at_any_size():
    assert (TINY.time, TINY.grid, TINY.patches, TINY.tokens, TINY.cls_index) == (3, (3, 4), 36, 37, 0)
    assert TINY.input_size == (3, 6, 24, 32)
    assert TINY.changed(frames=1, tubelet=1).input_size == (3, 24, 32)
    model = tiny()
    assert model.pos_embed.shape == (1, 13, 16)
    assert model.temporal_pos_embedding.shape == (1, 3, 16)
    assert model.pretrained_cfg["input_size"] == TINY.input_size
    assert "temporal_pos_embedding" in model.no_weight_decay()
    assert tiny(frames=1, tubelet=1).temporal_pos_embedding is None
    assert "temporal_pos_embedding" not in tiny(frames=1, tubelet=1).state_dict()
    for frames, tokens in ((8, 1569), (16, 3137), (32, 6273), (64, 12545)):
        assert ModelConfig(frames=frames).tokens == tokens


@pytest.mark.parametrize("reduction", [None, TokenMerge(r=5)], ids=str)
def test_every_parameter_of_a_clip_model_gets_a_gradient(reduction):
    model = tiny(reduction).train()
    model(clips()).square().sum().backward()
    # The head reads the first token alone, where the last block's forward scan has nothing to remember yet.
    idle = {name for name, parameter in model.named_parameters() if not parameter.grad.any()}
    assert idle == {"layers.3.mixer.A_log"}


def test_a_reduced_clip_keeps_its_class_token_first_and_counts_every_patch():
    trace = tiny(TokenMerge(r=9)).trace(clips())
    assert [tokens.length for tokens in trace.blocks] == [37, 37, 28, 28]
    assert trace.final.cls_index.tolist() == [0, 0]
    assert trace.final.sizes().sum(1).tolist() == [37, 37]
    assert trace.final.group().shape == (2, 37)


def test_what_is_no_clip_of_this_model_is_refused():
    with pytest.raises(UnsupportedInput, match=r"\(b, 3, 6, 24, 32\)"):
        tiny()(torch.randn(2, 3, 24, 32))
    with pytest.raises(UnsupportedInput, match="frames=…"):
        tiny()(torch.randn(2, 3, 8, 24, 32))
    with pytest.raises(ConfigError, match="left over"):
        TINY.changed(frames=7)
    with pytest.raises(ConfigError, match="tubelet"):
        TINY.changed(tubelet=0)
    with pytest.raises(UnknownName, match="middle"):
        TINY.changed(cls_place="midle")


def test_inflated_image_weights_project_a_still_clip_as_the_image():
    image_embed = PatchEmbed(TINY.changed(frames=1, tubelet=1))
    clip_embed = PatchEmbed(TINY)
    image = clips(TINY.changed(frames=1, tubelet=1))
    with torch.no_grad():
        clip_embed.proj.weight.copy_(inflate(image_embed.proj.weight, TINY.tubelet))
        clip_embed.proj.bias.copy_(image_embed.proj.bias)
        of_clip = clip_embed(image[:, :, None].expand(-1, -1, TINY.frames, -1, -1))
        torch.testing.assert_close(of_clip, image_embed(image).expand(-1, TINY.time, -1, -1))


def test_temporal_positions_are_resampled_linearly():
    table = torch.arange(4.0).reshape(1, 4, 1).expand(1, 4, 2)
    assert torch.equal(resize_temporal_embedding(table, 4), table)
    longer = resize_temporal_embedding(table, 8)[0, :, 0]
    assert longer.tolist() == [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3]
    assert resize_temporal_embedding(table.half(), 2).dtype == torch.float16


@pytest.mark.parametrize(("name", "merges", "left"), [("tiny", 11, 601), ("small", 11, 601), ("middle", 15, 249)])
def test_the_papers_setting_on_kinetics(name, merges, left):
    from rmeeto.models.vim.zoo import ZOO

    config = ZOO[f"videomamba_{name}_video"].config
    schedule = TokenMerge(r=88).schedule(Stack(config.depth, config.tokens))
    assert sum(count > 0 for count in schedule.counts) == merges
    assert schedule.tokens[-1] == left


def test_a_clip_model_of_the_zoo_in_other_sizes():
    model = create_model("videomamba_tiny_video", frames=16, img_size=32, depth=2, reduction="merge:r=20,blocks=odd")
    assert model(torch.randn(1, 3, 16, 32, 32)).shape == (1, 400)
    assert model.schedule.tokens == (65, 45)
    assert flops(model).blocks[1].tokens == 45
