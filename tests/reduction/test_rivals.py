"""Every published method against a loop over tokens, and what all methods promise."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from rmeeto import TokenMerge
from rmeeto.config import ModelConfig
from rmeeto.cost import count
from rmeeto.errors import ConfigError, UnknownName
from rmeeto.models.vim.backbone import VisionMamba
from rmeeto.reduction import (
    METHODS,
    MTR,
    STM,
    UTR,
    FambaV,
    HiddenStateAlignment,
    PiToMe,
    RandomMerge,
    RandomPrune,
    ToFu,
    TokenPrune,
    TokenRecognition,
    parse_reduction,
)
from rmeeto.reduction.elapsed import Gaps
from rmeeto.reduction.methods.pairwise import PairwiseReduction
from rmeeto.reduction.plan import take
from rmeeto.reduction.protocol import Stack, Step, Widths

sys.path.insert(0, str(Path(__file__).parent))
import naive_rivals as rivals
from draws import at, random_features, random_tokens

EARLY, LATE = Step(5, block=1, depth=8), Step(5, block=6, depth=8)


def image(tokens, features, i):
    """One image as lists."""
    return SimpleNamespace(
        x=tokens.x[i].tolist(),
        residual=tokens.residual[i].tolist(),
        size=tokens.size[i].tolist(),
        protected=tokens.protected[i].tolist(),
        delta_bias=[bias.tolist() for bias in features.delta_bias],
        **{name: [side[i].tolist() for side in features.pair(name)] for name in ("y", "delta")},
    )


@pytest.mark.parametrize("length", [23, 24])
@pytest.mark.parametrize("step", [EARLY, LATE], ids=["early", "late"])
@pytest.mark.parametrize(
    ("method", "loop"),
    [
        (TokenRecognition(r=5), rivals.drop_least_active),
        (TokenRecognition(r=5, features="X"), rivals.drop_least_active),
        (TokenRecognition(r=5, fused=True), rivals.fuse_least_active),
        (HiddenStateAlignment(r=5), rivals.drop_least_active),
        (HiddenStateAlignment(r=5, alignment="none", direction="backward"), rivals.drop_least_active),
        (HiddenStateAlignment(r=5, missing="last", direction="forward"), rivals.drop_least_active),
        (MTR(r=5), rivals.mtr),
        (MTR(r=5, targets=0.4), rivals.mtr),
        (UTR(r=5), rivals.utr),
        (UTR(r=5, pruned=0.2, direction="forward"), rivals.utr),
        (STM(r=5), rivals.stm),
        (STM(r=5, guard=0), rivals.stm),
        (PiToMe(r=5), rivals.pitome),
        (PiToMe(r=5, margin=-0.3), rivals.pitome),
        (ToFu(r=5), rivals.tofu),
        (ToFu(r=5, until=0), rivals.tofu),
    ],
    ids=str,
)
def test_equals_a_loop_over_tokens(method, loop, step, length):
    tokens = random_tokens(length)
    features = random_features(tokens)
    reduced = method.step(tokens, features, step)
    for i in range(len(tokens.x)):
        one = image(tokens, features, i)
        outcome = loop(one, method, step)
        gone = {source for source, _ in outcome.pairs}
        assert len(gone) == step.r
        kept = [p for p in range(length) if p not in gone]
        for name, weights in zip(("x", "residual"), outcome.weights, strict=True):
            wanted = rivals.combine(getattr(one, name), kept, outcome, weights)
            torch.testing.assert_close(getattr(reduced, name)[i], torch.tensor(wanted, dtype=torch.float64))
        ended = {survivor: place for place, survivor in enumerate(kept)}
        ended |= {source: -1 if target is None else ended[target] for source, target in outcome.pairs}
        assert reduced.group()[i].tolist() == [ended[p] for p in range(length)]
        absorbed = [sum(one.size[p] for p in range(length) if ended[p] == k) for k in range(len(kept))]
        assert reduced.size[i].tolist() == absorbed
        assert [kept[place] for place in reduced.protected[i]] == one.protected


def test_the_mean_place_decides_where_the_fused_token_stands():
    """Of tokens 2, 3 and 9, much the heaviest at 9, the fused one stands at 9; of equally heavy ones, at 3."""
    tokens = random_tokens(12, batch=1).replace(protected=torch.tensor([[0]]))
    features = random_features(tokens)
    for weights, seat in (((0.1, 0.1, 9.0), 9), ((1.0, 1.0, 1.0), 3)):
        y = torch.full_like(tokens.x, 100.0)
        for place, weight in zip((2, 3, 9), weights, strict=True):
            y[0, place] = weight
        features = type(features)(features.B, features.C, features.delta, (y, y), features.delta_bias)
        reduced = TokenRecognition(r=2, fused=True).step(tokens, features, Step(2, block=2, depth=4))
        gone = sorted(reduced.plans[0].source[0].tolist())
        assert gone == sorted({2, 3, 9} - {seat})


MERGING = [
    TokenRecognition(r=3, fused=True),
    MTR(r=3),
    UTR(r=3),
    STM(r=3, guard=1),
    PiToMe(r=3),
    ToFu(r=3, until=0),
    FambaV(r=3),
    RandomMerge(r=3),
    TokenMerge(r=3, stretch=0.5),
]
PRUNING = [TokenRecognition(r=3), HiddenStateAlignment(r=3), ToFu(r=3, until=1), RandomPrune(r=3), TokenPrune(r=3)]


@pytest.mark.parametrize("method", MERGING + PRUNING, ids=str)
def test_properties_over_successive_steps(method):
    length, left = 21, 21
    tokens = random_tokens(length).replace(size=None)
    protected_values = take(tokens.x, tokens.protected)
    for block in (1, 2, 3):
        step = Step(3, block=block, depth=4)
        tokens, left = method.step(tokens, random_features(tokens), step), left - 3
        assert tokens.length == left
        torch.testing.assert_close(take(tokens.x, tokens.protected), protected_values, rtol=0, atol=0)
        plan, group = tokens.plans[-1], tokens.group()
        if not isinstance(method, FambaV):
            assert all(kept.tolist() == sorted(kept.tolist()) for kept in plan.kept)
        for i in range(3):
            members = torch.bincount(group[i][group[i] >= 0], minlength=left)
            assert members.tolist() == tokens.sizes()[i].tolist()
            assert members[tokens.protected[i]].tolist() == [1, 1]
            if method in MERGING:
                assert tokens.sizes()[i].sum() == length
            else:
                assert (members == 1).all()


def test_fambav_is_unweighted_unordered_merging():
    tokens = random_tokens()
    ours, plain = (
        method.step(tokens, None, at(5)) for method in (FambaV(r=5), TokenMerge(r=5, op="mean", order="dropped"))
    )
    assert torch.equal(ours.x, plain.x)
    assert torch.equal(ours.group(), plain.group())
    assert str(FambaV(r=14, blocks="even")) == "famba:r=14,blocks=even"
    assert FambaV(r=7).schedule(Stack(24, 197)).counts == (0, *[7] * 23)


@pytest.mark.parametrize("method", [RandomPrune(r=5), RandomMerge(r=5)], ids=str)
def test_random_baselines_follow_torch_s_generator_and_reach_every_patch(method):
    tokens = random_tokens()
    torch.manual_seed(1)
    first = method.step(tokens, None, at(5)).group()
    torch.manual_seed(1)
    assert torch.equal(method.step(tokens, None, at(5)).group(), first)
    leaving = {p for _ in range(60) for p in method.step(tokens, None, at(5)).plans[-1].source[0].tolist()}
    assert leaving == set(range(23)) - set(tokens.protected[0].tolist())


def test_stretch_follows_the_sizes():
    tokens = random_tokens()
    once = TokenMerge(r=5, stretch=0.5).step(tokens, None, at(5))
    torch.testing.assert_close(once.timing.factor, once.size.sqrt())
    twice = TokenMerge(r=5, stretch=0.5).step(once, None, at(5))
    torch.testing.assert_close(twice.timing.factor, twice.size.sqrt())
    assert TokenMerge(r=5).step(tokens, None, at(5)).timing is None


@pytest.mark.parametrize("missing", ["mean", "neighbour", "last"])
def test_alignment_remembers_what_left(missing):
    """Over three steps: the time between two neighbours is the time of all that stood between them."""
    tokens = start = random_tokens().replace(size=None)
    method = HiddenStateAlignment(r=4, missing=missing)
    own = [torch.zeros(3, 23, 6 if missing == "last" else 1, dtype=torch.float64) for _ in range(2)]
    alive = [list(range(23)) for _ in range(3)]
    for _ in range(3):
        features = random_features(tokens)
        steps = features.step_sizes() if missing == "last" else (torch.ones(3, tokens.length, 1),) * 2
        tokens = method.step(tokens, features, at(4))
        for i in range(3):
            for place in tokens.plans[-1].source[i].tolist():
                for side in range(2):
                    own[side][i, alive[i][place]] = steps[side][i, place].double()
            alive[i] = [alive[i][place] for place in tokens.plans[-1].kept[i].tolist()]
    assert isinstance(tokens.timing, Gaps)
    for i in range(3):
        for k, place in enumerate(alive[i]):
            before = alive[i][k - 1] if k else -1
            behind = alive[i][k + 1] if k + 1 < len(alive[i]) else start.length
            torch.testing.assert_close(tokens.timing.gap[0][i, k].double(), own[0][i, before + 1 : place].sum(0))
            torch.testing.assert_close(tokens.timing.gap[1][i, k].double(), own[1][i, place + 1 : behind].sum(0))
    assert HiddenStateAlignment(r=4, alignment="none").step(start, random_features(start), at(4)).timing is None


LINES = [
    "evit:r=11,fused=True",
    "evit:ratio=0.3,blocks=all,features=X",
    "hsa:r=39+31+25,blocks=5:16:5",
    "hsa:r=5,direction=backward,alignment=none",
    "hsa:r=5,missing=last",
    "mtr:r=11,targets=2",
    "utr:r=11,pruned=0.25",
    "stm:r=11,guard=4,features=B",
    "pitome:r=11,margin=0.5,features=K",
    "tofu:r=11,until=0.25,distance=l1",
    "tome:r=8",
    "tome:r=13,slope=-1,features=X",
    "famba:r=7",
    "famba:r=9,blocks=18:",
    "random-prune:r=11",
    "random-merge:r=11",
    "merge:r=11,stretch=0.5",
    "similar-merge:r=20,threshold=0.8",
    "similar-prune:ratio=0.3,threshold=-1,features=C,window=1",
]


@pytest.mark.parametrize("text", LINES)
def test_text_form_reads_back(text):
    method = parse_reduction(text)
    assert str(method) == text
    assert parse_reduction(str(method)) == method


def test_every_method_has_a_line():
    assert {line.partition(":")[0] for line in LINES} >= set(METHODS) - {"prune", "released", "released-vit"}


@pytest.mark.parametrize(
    ("text", "error", "hint"),
    [
        ("evit:r=1,features=B", UnknownName, "y"),
        ("evit:r=1,features=X,direction=forward", ConfigError, "no directions"),
        ("hsa:r=1,missing=next", UnknownName, "neighbour"),
        ("mtr:r=1,targets=0", ConfigError, "target"),
        ("utr:r=1,pruned=1.5", ConfigError, "between 0 and 1"),
        ("stm:r=1,guard=-1", ConfigError, "zero or more"),
        ("pitome:r=1,margin=2", ConfigError, "between -1 and 1"),
        ("tofu:r=1,until=2", ConfigError, "between 0 and 1"),
        ("merge:r=1,stretch=inf", ConfigError, "finite"),
        ("random-prune:r=1,features=X", UnknownName, "option"),
        ("similar-merge:r=1,threshold=0", ConfigError, "empty slots"),
        ("similar-merge:r=1,threshold=-0.5", ConfigError, "empty slots"),
        ("similar-merge:r=1,threshold=nan", ConfigError, "empty slots"),
        ("similar-merge:r=1,window=0", ConfigError, "window=1"),
        ("similar-merge:gflops=1", ConfigError, "keeps them all"),
        ("similar-prune:fewer=1.5", ConfigError, "keeps them all"),
    ],
)
def test_bad_text_says_what_is_wrong(text, error, hint):
    with pytest.raises(error, match=hint):
        parse_reduction(text)


@pytest.mark.parametrize(
    ("text", "missing"),
    [("evit:r=1", "y"), ("hsa:r=1", "delta and y"), ("mtr:r=1", "delta"), ("merge:r=1,stretch=1", "delta")],
)
def test_what_a_network_does_not_compute_is_refused_when_assigned(text, missing):
    attention = Stack(8, 50, first=0, features=frozenset({"X", "Q", "K", "V"}))
    with pytest.raises(ConfigError, match=f"reads {missing}"):
        parse_reduction(text).schedule(attention)


def test_guarded_patches_leave_fewer_to_merge():
    stack = Stack(4, 18)
    assert STM(r=8, guard=0, blocks="1:2").schedule(stack).counts == (0, 8, 0, 0)
    assert STM(r=5, guard=2, blocks="1:2").schedule(stack).counts == (0, 5, 0, 0)
    with pytest.raises(ConfigError, match="at most half"):
        STM(r=6, guard=2, blocks="1:2").schedule(stack)


@pytest.mark.parametrize("place", range(18))
def test_a_guard_anywhere_leaves_enough_neighbours(place):
    """For every position of the class token the scheduled counts can be removed, and guarded patches stay."""
    for length in (17, 18):
        cls = min(place, length - 1)
        tokens = random_tokens(length).replace(protected=torch.full((3, 1), cls))
        plan = STM(r=5, guard=2).step(tokens, None, at(5)).plans[0]
        nearest = sorted((p for p in range(length) if p != cls), key=lambda p: (abs(p - cls), p))[:4]
        touched = set(plan.source.flatten().tolist()) | set(plan.kept.gather(1, plan.target).flatten().tolist())
        assert not touched & {cls, *nearest}
        assert (plan.source - plan.kept.gather(1, plan.target)).abs().max() <= 2


TINY = ModelConfig(img_size=(16, 16), patch_size=4, stride=4, dim=8, depth=4, state=4, num_classes=3)
WIDTHS = Widths(features={"X": 8, "B": 4, "C": 4, "delta": 16, "y": 16}, directional=("B", "C", "delta", "y"), moved=16)


@pytest.mark.parametrize("method", [m for m in MERGING + PRUNING if not isinstance(m, PairwiseReduction)], ids=str)
def test_nothing_to_remove_changes_nothing(method):
    model, images = VisionMamba(TINY).eval(), torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        whole = model(images)
        model.reduction = parse_reduction(f"{method.name}:r=0")
        assert torch.equal(model(images), whole)


def test_operations_of_recognition_by_hand():
    """16 patches of width 16 in two directions: sum and halve 2·256, maximum and sum 2·256."""
    assert TokenRecognition(r=3).operations(WIDTHS, 16, at(3)) == 1024
    assert TokenRecognition(r=3, direction="forward").operations(WIDTHS, 16, at(3)) == 512
    assert TokenRecognition(r=3, features="X").operations(WIDTHS, 16, at(3)) == 256
    # fused: 3 merges of 16 numbers, 3 each; 4 products, 4 + 4 sums, a division, 4 differences and magnitudes
    assert TokenRecognition(r=3, fused=True).operations(WIDTHS, 16, at(3)) == 1024 + 144 + 21


def test_pruning_costs_what_merging_costs_without_the_merges():
    merge, prune = (method(r=3).operations(WIDTHS, 16, at(3)) for method in (TokenMerge, TokenPrune))
    assert merge - prune == 3 * 3 * 16


def test_operations_of_mtr_by_hand():
    # Δ: bias and softplus 4·2·256, sum 256, mean 256; 3 sources and 3 targets of width 8; 3 merges of 16 numbers
    assert MTR(r=3).operations(WIDTHS, 16, at(3)) == 2048 + 512 + (3 * 6 * 8 + 9 * 17) + 144


def test_time_is_counted_in_every_block_behind_a_reduction():
    plain = HiddenStateAlignment(r=3, blocks="2:3", alignment="none")
    aligned = HiddenStateAlignment(r=3, blocks="2:3", missing="last")
    costs = [count(TINY, method) for method in (plain, aligned)]
    assert [block.terms.get("timing", 0) for block in costs[1].blocks] == [0, 0, *[2 * 3 * 14 * 16] * 2]
    assert costs[1].total - costs[0].total == 2 * 2 * 3 * 14 * 16 + 2 * (4 * 16 * 16 + 2 * 16 * 16)
    stretched = count(TINY, TokenMerge(r=3, blocks="2:3", stretch=1))
    assert stretched.total - count(TINY, TokenMerge(r=3, blocks="2:3")).total == 2 * 2 * 14 * 16
