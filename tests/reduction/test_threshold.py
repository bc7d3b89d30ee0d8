"""Methods by which every image loses its own number of tokens."""

import math
import sys
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

import fresh
from rmeeto import TokenMerge
from rmeeto.config import ModelConfig
from rmeeto.models.vim.backbone import VisionMamba
from rmeeto.models.vit import reduce
from rmeeto.reduction import Plan, SimilarMerge, SimilarPrune, TokenPrune, parse_reduction
from rmeeto.reduction.match import match
from rmeeto.reduction.methods.threshold import first_pairs
from rmeeto.reduction.ragged import RaggedPlan
from rmeeto.reduction.tokens import Tokens

sys.path.insert(0, str(Path(__file__).parent))
import naive
from draws import at, random_tokens

SIZES = {"img_size": 24, "patch_size": 4, "stride": 4, "dim": 12, "depth": 5, "state": 4, "num_classes": 3}


def alike_by_image(length=23, batch=3) -> Tokens:
    """Tokens that are random, rather similar, and very similar."""
    tokens = random_tokens(length, batch)
    likeness = torch.tensor([0.0, 1.5, 4.0], dtype=torch.float64)[:batch, None, None]
    return tokens.replace(x=tokens.x + likeness * torch.randn(batch, 1, tokens.x.shape[2], dtype=torch.float64))


def one(tokens: Tokens, i: int) -> Tokens:
    """Image i alone, without its empty slots."""
    cut = {name: getattr(tokens, name)[i : i + 1, : tokens.counts()[i]] for name in ("x", "residual", "size")}
    return Tokens(protected=tokens.protected[i : i + 1], **cut)


def loop(tokens: Tokens, r: int, threshold: float, *, merging: bool, window: int | None):
    """One image token by token: x, residual, sizes, places of the protected, source map."""
    x, residual, size = tokens.x[0].tolist(), tokens.residual[0].tolist(), tokens.size[0].tolist()
    protected = tokens.protected[0].tolist()
    pairs, _, _ = naive.choose(x, protected, r, window=window)
    pairs = [(s, t) for s, t in pairs if -naive.distance(x[s], x[t], "cosine") >= threshold]
    kept = [i for i in range(len(x)) if i not in {s for s, _ in pairs}]
    joined = pairs if merging else []
    merged, sizes = naive.combine(x, size, kept, joined, "sum")
    residuals, _ = naive.combine(residual, size, kept, joined, "sum")
    group = {i: place for place, i in enumerate(kept)}
    group |= {s: group[t] if merging else -1 for s, t in pairs}
    return merged, residuals, sizes, [kept.index(p) for p in protected], [group[i] for i in range(len(x))]


@pytest.mark.parametrize("kind", [SimilarMerge, SimilarPrune], ids=lambda kind: kind.name)
@pytest.mark.parametrize("length", [23, 24])
@pytest.mark.parametrize("window", [None, 3])
def test_equals_a_loop_over_tokens(kind, length, window):
    """Two steps: the second finds empty slots. Every image removes its own number of tokens in both."""
    tokens = alike_by_image(length)
    method = kind(r=6, threshold=0.7, window=window)
    for _ in range(2):
        reduced = method.step(tokens, None, at(6))
        lost = []
        for i in range(3):
            alone = one(tokens, i)
            wanted = loop(alone, 6, 0.7, merging=method.merges, window=window)
            got = one(reduced, i)
            for ours, theirs in zip((got.x, got.residual, got.size, got.protected), wanted, strict=False):
                torch.testing.assert_close(ours[0], torch.tensor(theirs, dtype=ours.dtype))
            assert reduced.plans[-1].assignment()[i, : alone.length].tolist() == wanted[-1]
            lost.append(alone.length - got.length)
        assert len(set(lost)) > 1
        assert reduced.length == reduced.lengths.max()
        assert torch.equal(reduced.sizes() > 0, reduced.token_mask)
        tokens = reduced


def test_empty_slots_go_as_soon_as_no_image_needs_them():
    """One image loses five tokens first, the other then: in the end both have equally many, and no empty slots."""
    torch.manual_seed(0)
    rough, even = torch.randn(11, 8), torch.randn(8) + 0.01 * torch.randn(11, 8)
    tokens = Tokens(torch.stack([rough, even]), None, torch.tensor([[0], [5]]))
    once = SimilarMerge(r=5, threshold=0.95).step(tokens, None, at(5))
    assert once.lengths.tolist() == [11, 6]
    later = once.replace(x=torch.stack([torch.cat([even, rough])[:11], rough]))
    twice = SimilarMerge(r=5, threshold=0.95).step(later, None, at(5))
    assert (twice.length, twice.lengths) == (6, None)
    assert twice.sizes().sum(1).tolist() == [11, 11]
    assert twice.unmerge(twice.sizes()).shape == (2, 11)


@pytest.mark.parametrize("op", ["sum", "mean", "max", "min"])
def test_a_ragged_plan_merges_as_ordinary_ones_do(op):
    tokens = alike_by_image()
    found = match(tokens.x, tokens.protected, 5)
    counts = torch.tensor([0, 2, 5])
    ragged = first_pairs(found, counts, tokens, merging=True)
    assert isinstance(ragged, RaggedPlan)
    together = ragged.merge(tokens.x, ragged.shares(tokens.sizes()), op)
    for i, count in enumerate(counts.tolist()):
        alone = Plan.joining(found.source[i : i + 1, :count], found.target[i : i + 1, :count], tokens.length)
        x, size = tokens.x[i : i + 1], tokens.sizes()[i : i + 1]
        torch.testing.assert_close(together[i : i + 1, : 23 - count], alone.merge(x, alone.shares(size), op))


def vim():
    return VisionMamba(ModelConfig(**SIZES)), torch.randn(4, 3, 24, 24)


def videomamba_image():
    return VisionMamba(ModelConfig(**SIZES, halve=False, cls_place="first")), torch.randn(4, 3, 24, 24)


def videomamba_clip():
    config = ModelConfig(**SIZES, halve=False, cls_place="first", frames=2)
    return VisionMamba(config), torch.randn(4, 3, 2, 24, 24)


def vit(**options):
    sizes = {"img_size": 24, "patch_size": 4, "embed_dim": 12, "depth": 5, "num_heads": 2, "num_classes": 3}
    return reduce(timm.models.VisionTransformer(**sizes, **options), None), torch.randn(4, 3, 24, 24)


def vit_of_patches(pool):
    return lambda: vit(global_pool=pool, class_token=False)


NETWORKS = {
    "vim": vim,
    "videomamba, images": videomamba_image,
    "videomamba, clips": videomamba_clip,
    "vit": vit,
    "vit, avg": vit_of_patches("avg"),
    "vit, max": vit_of_patches("max"),
    "vit, map": vit_of_patches("map"),
}
METHODS = ["similar-merge", "similar-prune"]


def loud(network, seed=0):
    """A network in float64 whose blocks count, and pictures from noise to almost one colour."""
    torch.manual_seed(seed)
    model, pictures = network()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=1 / math.sqrt(parameter[0].numel()))
    evenness = torch.tensor([0.1, 0.5, 1.0, 4.0]).reshape(-1, *[1] * (pictures.dim() - 1))
    return model.double().eval(), (pictures * evenness + 1).double()


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_an_image_knows_nothing_of_its_batch(network, name):
    model, pictures = loud(network)
    model.reduction = parse_reduction(f"{name}:r=6,threshold=0.9,blocks=all")
    with torch.no_grad():
        together, alone = model.trace(pictures), [model.trace(picture[None]) for picture in pictures]
        torch.testing.assert_close(model(pictures), together.logits)
        logits, seen = model.forward_counts(pictures)
    assert torch.equal(logits, together.logits)
    torch.testing.assert_close(together.logits, torch.cat([trace.logits for trace in alone]))
    counts = seen.tolist()
    assert counts == [[tokens.length for tokens in trace.blocks] for trace in alone]
    assert len({*map(tuple, counts)}) > 1, "the images should lose different numbers of tokens"
    for tokens, *each in zip(together.blocks, *(trace.blocks for trace in alone), strict=True):
        assert tokens.length == max(one.length for one in each)
        assert torch.equal(tokens.group(), torch.cat([one.group() for one in each]))
        torch.testing.assert_close(tokens.unmerge(tokens.x), torch.cat([one.unmerge(one.x) for one in each]))


@pytest.mark.parametrize("network", [vim, videomamba_clip, vit])
def test_maps_stand_on_the_full_grid(network):
    model, pictures = loud(network)
    model.reduction = SimilarMerge(r=6, threshold=0.9, blocks="all")
    with torch.no_grad():
        together = model.forward_intermediates(pictures, [1, 4], intermediates_only=True)
        alone = [model.forward_intermediates(picture[None], [1, 4], intermediates_only=True) for picture in pictures]
    for maps, *each in zip(together, *alone, strict=True):
        torch.testing.assert_close(maps, torch.cat(each))


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("network", [vim, vit_of_patches("max")], ids=["vim", "vit"])
def test_gradients_are_those_of_each_image_alone(network, name):
    model, pictures = loud(network)
    model.reduction = parse_reduction(f"{name}:r=6,threshold=0.9,blocks=all")
    model.train()
    model(pictures).square().sum().backward()
    together = {key: parameter.grad for key, parameter in model.named_parameters()}
    model.zero_grad()
    for picture in pictures:
        model(picture[None]).square().sum().backward()
    assert any(tokens.lengths is not None for tokens in model.trace(pictures).blocks)
    for key, parameter in model.named_parameters():
        torch.testing.assert_close(together[key], parameter.grad, msg=key)


@pytest.mark.parametrize("network", [vim, vit])
def test_what_an_empty_slot_holds_changes_nothing(network):
    model, pictures = loud(network)
    model.reduction = SimilarMerge(r=6, threshold=0.9, blocks="all")
    with torch.no_grad():
        before = model.trace(pictures).blocks[2]
        litter = torch.where(before.token_mask[..., None], 0, 1e3 * torch.randn_like(before.x))
        after = before.replace(
            x=before.x + litter, residual=None if before.residual is None else before.residual - 7 * litter
        )
        if isinstance(model, VisionMamba):
            clean, dirty = (model.layers[3](tokens)[0] for tokens in (before, after))
        else:
            clean, dirty = (model.advance(model.blocks[3], t, model.schedule.steps[3]) for t in (before, after))
    for i in range(4):
        held = slice(before.counts()[i])
        torch.testing.assert_close(dirty.x[i, held], clean.x[i, held])


@pytest.mark.parametrize(("kind", "plain"), [(SimilarMerge, TokenMerge), (SimilarPrune, TokenPrune)])
@pytest.mark.parametrize("network", [vim, videomamba_clip, vit])
def test_the_ends_of_the_scale(network, kind, plain):
    model, pictures = loud(network)
    answers = {}
    for reduction in (None, plain(r=6), kind(r=6, threshold=-1), kind(r=6, threshold=1.01)):
        model.reduction = reduction
        with torch.no_grad():
            answers[str(reduction)] = model(pictures)
    whole, reduced, everything, nothing = answers.values()
    assert not torch.equal(whole, reduced)
    assert torch.equal(everything, reduced)
    torch.testing.assert_close(nothing, whole)


def test_a_lower_threshold_leaves_fewer_tokens():
    model, pictures = loud(vim)
    left = []
    for threshold in (0.99, 0.9, 0.8, 0.5):
        model.reduction = SimilarMerge(r=6, threshold=threshold, blocks="all")
        with torch.no_grad():
            sizes = model.trace(pictures).final.sizes()
        left.append((sizes > 0).sum().item())
        assert sizes.sum(1).tolist() == [37] * 4
    assert left == sorted(left, reverse=True)
    assert len(set(left)) > 2


COMPILED = """
import torch
from rmeeto.reduction import parse_reduction
from rmeeto.config import ModelConfig
from rmeeto.models.vim.backbone import VisionMamba

torch.manual_seed(0)
model = VisionMamba(ModelConfig(**{sizes}), parse_reduction("similar-merge:r=9,threshold=0.9,blocks=all")).eval()
pictures = torch.randn(3, 3, 24, 24) * torch.tensor([0.1, 0.5, 4.0])[:, None, None, None] + 1
with torch.no_grad():
    assert any(tokens.lengths is not None for tokens in model.trace(pictures).blocks)
    torch.testing.assert_close(torch.compile(model, backend="eager")(pictures), model(pictures))
"""


def test_compiles_in_parts():
    """No single graph: how many tokens a block sees is known when the images are."""
    code = COMPILED.replace("{sizes}", repr(SIZES | {"depth": 3}))
    fresh.run(code, quiet=True)
