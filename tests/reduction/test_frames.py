"""Matching in the own frame of a clip and its neighbours, by the frames that survivors came from."""

import sys
from itertools import product
from pathlib import Path

import pytest
import torch

import rmeeto
from rmeeto import TokenMerge
from rmeeto.config import ModelConfig
from rmeeto.errors import ConfigError
from rmeeto.models.vim.backbone import VisionMamba
from rmeeto.reduction import TokenPrune, parse_reduction
from rmeeto.reduction.frames import pairs_near, patch_frames, targets_near
from rmeeto.reduction.match import match
from rmeeto.reduction.protocol import Stack, Step, Widths
from rmeeto.reduction.tokens import Tokens

sys.path.insert(0, str(Path(__file__).parent))
import naive
from draws import random_tokens

TIME, PER_FRAME = 3, 7  # with the class token and the register of random_tokens: 23 tokens
CLIP = ModelConfig(
    img_size=16, patch_size=4, stride=4, frames=4, dim=16, depth=4, state=4, num_classes=3, cls_place="first"
)


def at(r: int, time: int = TIME) -> Step:
    return Step(r, block=2, depth=4, time=time)


def frames_at_first(protected: list[int], length: int, per_frame: int = PER_FRAME) -> list[int | None]:
    """The frame of every token, none of the protected ones."""
    patches = [place for place in range(length) if place not in protected]
    return [patches.index(place) // per_frame if place in patches else None for place in range(length)]


@pytest.mark.parametrize(
    ("frames", "distance", "nth", "kind"),
    list(product([0, 1, 2], ["cosine", "l1", "l2"], [1, 2, 4], [TokenMerge, TokenPrune])),
)
def test_equals_a_loop_over_successive_steps(frames, distance, nth, kind):
    """Until one patch is left, so that frames run out of targets and of patches altogether."""
    tokens, counts, alone = random_tokens(), (10, 5, 3, 1, 1), 0
    origin = [list(range(tokens.length)) for _ in range(3)]
    frame_of = [frames_at_first(protected, tokens.length) for protected in tokens.protected.tolist()]
    for r in counts:
        reduced = kind(r=r, frames=frames, distance=distance, nth=nth).step(tokens, None, at(r))
        for i in range(3):
            protected, frame = tokens.protected[i].tolist(), [frame_of[i][place] for place in origin[i]]
            pairs, ranked, targets = naive.choose(
                tokens.x[i].tolist(), protected, r, distance_name=distance, nth=nth, frame=frame, frames=frames
            )
            kept = naive.layout(tokens.length, protected, pairs, ranked, targets, "kept")
            plan = reduced.plans[-1]
            assert plan.kept[i].tolist() == kept
            assert plan.source[i].tolist() == [source for source, _ in pairs]
            if kind is TokenMerge:
                assert plan.target[i].tolist() == [kept.index(target) for _, target in pairs]
                alone += sum(abs(frame[source] - frame[target]) > frames for source, target in pairs)
            origin[i] = [origin[i][place] for place in kept]
        assert reduced.origins().tolist() == origin
        tokens = reduced
    assert tokens.length == 23 - sum(counts)
    assert alone or frames or kind is TokenPrune  # it did get to candidates that see nothing


def test_frames_are_those_of_the_survivors():
    tokens = random_tokens()
    for r in (0, 4, 5):
        tokens = TokenMerge(r=r, frames=1).step(tokens, None, at(r)) if r else tokens
        for i, protected in enumerate(random_tokens().protected.tolist()):
            frame = frames_at_first(protected, 23)
            here = [frame[place] for place in tokens.origins()[i].tolist() if frame[place] is not None]
            assert patch_frames(tokens, TIME)[i].tolist() == here == sorted(here)


def test_who_sees_nothing_goes_last_and_to_the_next_token():
    """Frames of one patch: frames=0 leaves no patch a partner. Two candidates of frames of two patches have one."""
    x = torch.randn(1, 7, 5, dtype=torch.float64)
    nobody = Tokens(x, None, torch.tensor([[3]]))
    assert TokenMerge(r=2, frames=0).step(nobody, None, at(2, time=6)).group().tolist() == [[0, 0, 2, 1, 2, 3, 4]]
    features, protected = torch.randn(1, 6, 5), torch.zeros(1, 0, dtype=torch.int64)
    low, high = torch.tensor([[1, 1, 2]]), torch.tensor([[1, 2, 3]])
    for _ in range(20):
        found = match(features, protected, 3, seen=(low, high), rank="random", pairing="random")
        assert found.ranked[0, 2] == 0
        assert found.target[0, 2] == 3
        assert set(zip(found.source[0, :2].tolist(), found.target[0, :2].tolist(), strict=True)) == {(2, 3), (4, 5)}


def test_a_candidate_behind_all_targets_takes_the_last():
    features, protected = torch.randn(1, 5, 5), torch.zeros(1, 0, dtype=torch.int64)
    low = high = torch.tensor([[0, 1, 2]])
    assert match(features, protected, 3, seen=(low, high)).target.tolist() == [[1, 3, 3]]


def test_as_many_frames_as_there_are_is_exact_matching():
    tokens = random_tokens()
    near, exact = (TokenMerge(r=8, frames=frames).step(tokens, None, at(8)) for frames in (TIME - 1, None))
    assert torch.equal(near.x, exact.x)
    assert torch.equal(near.group(), exact.group())


@pytest.mark.parametrize("options", [{}, {"pairing": "random"}, {"rank": "random"}], ids=str)
@pytest.mark.parametrize("place", ["first", "middle"])
def test_a_network_merges_within_frames(options, place):
    """frames=0, over all its blocks and while every frame has enough: no group reaches into another frame."""
    model = VisionMamba(CLIP.changed(cls_place=place), TokenMerge(r=7, blocks="all", frames=0, **options)).eval()
    tokens = model.trace(torch.randn(2, 3, 4, 16, 16)).final
    assert tokens.length == 65 - 21
    cls = model.config.cls_index
    groups = torch.cat([tokens.group()[:, :cls], tokens.group()[:, cls + 1 :]], dim=1).reshape(2, 4, 16)
    for image in groups:
        parts = [set(frame.tolist()) for frame in image]
        assert sum(map(len, parts)) == len(set.union(*parts)) == 44 - 1
    assert (tokens.sizes() > 1).any()


@pytest.mark.parametrize("frames", [0, 1, 3, 9])
@pytest.mark.parametrize(("patches", "time"), [(24, 4), (21, 3), (28, 1), (25, 4), (5, 8)])
def test_operations_count_the_pairs_that_are_compared(patches, time, frames):
    frame = [patch * time // patches for patch in range(patches)]
    candidates, targets = range(0, patches, 2), range(1, patches, 2)
    pairs = sum(abs(frame[c] - frame[t]) <= frames for c, t in product(candidates, targets))
    assert pairs_near(patches, time, frames) == pairs
    low, high = targets_near(torch.tensor([frame]), frames)
    assert (high - low).sum() == pairs
    widths = Widths(features={"X": 10}, directional=(), moved=20)
    for kind in (TokenMerge, TokenPrune):
        exact, near = (kind(r=2, frames=n).operations(widths, patches, at(2, time)) for n in (None, frames))
        assert exact - near == (len(candidates) * len(targets) - pairs) * 21


def test_flops_of_a_model_know_its_frames():
    model = VisionMamba(CLIP, TokenMerge(r=8, frames=0))
    near = rmeeto.flops(model).blocks[2].terms["reduction"]
    model.reduction = TokenMerge(r=8)
    everywhere = rmeeto.flops(model).blocks[2].terms["reduction"]
    assert everywhere - near == (32 * 32 - 4 * 8 * 8) * (2 * CLIP.dim + 1)


def test_the_cost_is_linear_in_the_length_of_the_clip():
    widths = Widths(features={"X": 10}, directional=(), moved=20)
    once, twice = (TokenMerge(r=1, frames=0).operations(widths, 196 * time, at(0, time)) for time in (8, 16))
    assert twice == 2 * once


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("merge:r=1,frames=-1", "own frame"),
        ("merge:r=1,frames=0.5", "frames takes"),
        ("merge:r=1,frames=1,window=1", "one neighbourhood"),
        ("merge:r=1,frames=1,grouping=front-behind", "frame by frame"),
        ("prune:r=1,frames=1,order=odd-even", "frame by frame"),
        ("prune:r=1,frames=1,shuffle=0.5", "frame by frame"),
    ],
)
def test_frames_that_make_no_sense_are_refused(text, hint):
    with pytest.raises(ConfigError, match=hint):
        parse_reduction(text)


def test_images_have_no_frames():
    model = VisionMamba(CLIP.changed(frames=1))
    with pytest.raises(ConfigError, match="an image has no frames"):
        model.reduction = TokenMerge(r=1, frames=1)
    assert model.reduction is None
    assert TokenMerge(r=1, frames=1).schedule(Stack(4, 65, time=4)).steps[2] == Step(1, 2, 4, time=4)


def test_the_frames_are_part_of_the_text_form():
    assert str(TokenMerge(r=88, frames=0)) == "merge:r=88,frames=0"
    assert parse_reduction("merge:r=88,frames=1") == TokenMerge(r=88, frames=1)
    assert parse_reduction("merge:r=3,frames=none") == TokenMerge(r=3)
