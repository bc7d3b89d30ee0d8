"""Missing places in the mixer: the short sequence must equal the full recurrence with the missing inputs zeroed."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import prune

from rmeeto.config import ModelConfig
from rmeeto.models.vim.mixers import BidirectionalMixer
from rmeeto.reduction.elapsed import Gaps, Stretch
from rmeeto.reduction.plan import Plan, take
from rmeeto.reduction.tokens import Tokens

CONFIG = ModelConfig(img_size=16, patch_size=4, stride=4, dim=8, depth=2, state=4)
LENGTH, KEPT = 23, torch.tensor([[1, 2, 5, 6, 7, 12, 15, 16, 21], [0, 3, 4, 5, 11, 13, 14, 20, 22]])


def recurrence(u, delta, A, B, C, *, reverse):
    """Every step of (b, l, e) inputs, the slow way."""
    h, outputs = u.new_zeros(u.shape[0], *A.shape), {}
    for t in sorted(range(u.shape[1]), reverse=reverse):
        h = torch.exp(delta[:, t, :, None] * A) * h + (delta[:, t] * u[:, t])[..., None] * B[:, t, None]
        outputs[t] = (h * C[:, t, None]).sum(-1)
    return torch.stack([outputs[t] for t in range(u.shape[1])], dim=1)


def spread(values, fill):
    """Values of the kept tokens at their places in the full sequence, ``fill`` (b, l, e) elsewhere."""
    index = KEPT[..., None].expand(-1, -1, values.shape[-1])
    return fill.expand(2, LENGTH, values.shape[-1]).scatter(1, index, values)


def pruned_plan() -> Plan:
    everything = torch.arange(LENGTH)
    source = torch.stack([everything[~torch.isin(everything, kept)] for kept in KEPT])
    return Plan.dropping(source, LENGTH)


def places(plan: Plan, missing) -> Gaps:
    ones = torch.ones(2, LENGTH, 1)
    return Gaps.left_by(plan, (ones, ones), missing)


@pytest.mark.parametrize("missing", ["mean", "neighbour", "last"])
@pytest.mark.parametrize("reverse", [False, True])
def test_gaps_equal_the_full_recurrence_with_zeroed_inputs(missing, reverse):
    e, n = 8, 4
    u, step = torch.randn(2, KEPT.shape[1], e), torch.rand(2, KEPT.shape[1], e) * 0.3 + 1e-3
    B, C, A = torch.randn(2, KEPT.shape[1], n), torch.randn(2, KEPT.shape[1], n), -torch.rand(e, n) * 4
    before, plan = torch.rand(2, LENGTH, e) * 0.2, pruned_plan()
    gaps = Gaps.left_by(plan, (before, before), missing) if missing == "last" else places(plan, missing)
    inputs = [t.requires_grad_() for t in (u, step, B, C)]

    longer, entering = gaps.steps(step, u, reverse=reverse)
    ours = recurrence(entering, longer, A, B, C, reverse=reverse)

    exact_u, exact_step, exact_B, exact_C = exact = [t.detach().double().requires_grad_() for t in inputs]
    if missing == "last":
        guess = before.double()
    elif missing == "mean":
        guess = exact_step.mean(1, keepdim=True)
    else:  # the next kept token of the scan; after the last one it is not read
        ahead = torch.stack([torch.searchsorted(kept, torch.arange(LENGTH)) for kept in KEPT])
        guess = take(exact_step, (ahead - 1 if reverse else ahead).clamp(0, KEPT.shape[1] - 1))
    nothing = torch.zeros(2, LENGTH, 1, dtype=torch.float64)
    full = recurrence(
        spread(exact_u, nothing),
        spread(exact_step, guess),
        A.double(),
        spread(exact_B, nothing),
        spread(exact_C, nothing),
        reverse=reverse,
    )
    truth = take(full, KEPT)
    assert (ours - truth).abs().max() <= 1e-6
    weights = torch.randn_like(ours)
    got = torch.autograd.grad((ours * weights).sum(), inputs)
    wanted = torch.autograd.grad((truth * weights).sum(), exact)
    for name, a, b in zip(("u", "delta", "B", "C"), got, wanted, strict=True):
        assert (a - b).abs().max() <= 1e-6 * max(1.0, b.abs().max().item()), name


@pytest.mark.parametrize("missing", ["mean", "neighbour"])
def test_a_mixer_over_gaps_equals_the_full_recurrence(missing):
    mixer, gaps = BidirectionalMixer(CONFIG), places(pruned_plan(), missing)
    x = torch.randn(2, KEPT.shape[1], CONFIG.dim, requires_grad=True)
    y, _ = mixer(x, gaps)

    exact, exact_x = BidirectionalMixer(CONFIG).double(), x.detach().double().requires_grad_()
    exact.load_state_dict(mixer.state_dict())
    u, gate = exact.in_proj(exact_x).chunk(2, dim=-1)
    summed = 0
    for side in exact.directions():
        padded = F.pad(u.transpose(1, 2), (0, 3) if side.reverse else (3, 0))
        weight = side.conv.weight.flip(-1) if side.reverse else side.conv.weight
        v = F.silu(F.conv1d(padded, weight, side.conv.bias, groups=u.shape[-1]).transpose(1, 2))
        dt, B, C = side.x_proj(v).split([exact.rank, exact.state, exact.state], dim=-1)
        step = F.softplus(side.dt_proj(dt))
        ahead = torch.stack([torch.searchsorted(kept, torch.arange(LENGTH)) for kept in KEPT])
        next_kept = take(step, (ahead - 1 if side.reverse else ahead).clamp(0, KEPT.shape[1] - 1))
        guess = step.mean(1, keepdim=True) if missing == "mean" else next_kept
        nothing = torch.zeros(2, LENGTH, 1, dtype=torch.float64)
        full = recurrence(
            spread(v, nothing),
            spread(step, guess),
            side.decay_rates(),
            spread(B, nothing),
            spread(C, nothing),
            reverse=side.reverse,
        )
        summed = summed + (take(full, KEPT) + side.skip * v) * F.silu(gate)
    truth = exact.out_proj(summed / 2)
    assert (y - truth).abs().max() <= 1e-6
    weights = torch.randn_like(y)
    parameters = [*mixer.parameters(), x]
    got = torch.autograd.grad((y * weights).sum(), parameters)
    wanted = torch.autograd.grad((truth * weights).sum(), [*exact.parameters(), exact_x])
    for a, b in zip(got, wanted, strict=True):
        assert (a - b).abs().max() <= 1e-6 * max(1.0, b.abs().max().item())


@pytest.mark.parametrize("timing", [Stretch(torch.ones(2, 9)), Gaps((torch.zeros(2, 9, 1),) * 2, "mean")], ids=type)
def test_a_timing_that_says_nothing_changes_nothing(timing):
    mixer, x = BidirectionalMixer(CONFIG), torch.randn(2, 9, CONFIG.dim)
    plain, features = mixer(x, needs=frozenset({"y"}))
    timed, timed_features = mixer(x, timing)
    torch.testing.assert_close(timed, plain, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(timed_features.mean("y"), features.mean("y"), rtol=1e-5, atol=1e-7)


def test_a_stretched_token_counts_like_so_many_small_steps():
    """Over three equal tokens the state moves as over one of three times the step, but for terms of second order."""
    u, B, C, A = torch.randn(1, 1, 4), torch.randn(1, 1, 3), torch.randn(1, 1, 3), -torch.rand(4, 3)
    step = torch.full((1, 1, 4), 1e-5)
    longer, entering = Stretch(torch.tensor([[3.0]])).steps(step, u, reverse=False)
    thrice = recurrence(
        *(t.expand(-1, 3, -1) for t in (u, step)), A, B.expand(-1, 3, -1), C.expand(-1, 3, -1), reverse=False
    )
    once = recurrence(entering, longer, A, B, C, reverse=False)
    torch.testing.assert_close(once[:, 0], thrice[:, 2], rtol=0, atol=0.01 * thrice.abs().max().item())


def test_features_are_the_scan_s_own_outputs():
    mixer, x = BidirectionalMixer(CONFIG), torch.randn(2, 9, CONFIG.dim)
    y, features = mixer(x, needs=frozenset({"y"}))
    torch.testing.assert_close(mixer.out_proj(sum(features.y) / 2), y)
    for side, step in zip(mixer.directions(), features.step_sizes(), strict=True):
        assert (step > 0).all()
        delta = features.delta[side.reverse]
        torch.testing.assert_close(step, torch.log1p(torch.exp(delta + side.dt_proj.bias)))


@pytest.mark.parametrize("reverse", [False, True])
def test_gaps_of_several_steps_add_up(reverse):
    """Counted token by token: the places between a survivor and the one that the walk meets before it."""
    length = 40
    tokens = Tokens(torch.randn(2, length, 3), None, torch.zeros(2, 1, dtype=torch.int64))
    alive, gaps = [list(range(length)) for _ in range(2)], Gaps((torch.zeros(2, length, 1),) * 2, "mean")
    for r in (7, 5, 9):
        left = len(alive[0])
        source = torch.rand(2, left).argsort(1)[:, :r]
        plan = Plan.dropping(source, left)
        gaps = gaps.moved(plan).joined(Gaps.left_by(plan, (torch.ones(2, left, 1),) * 2, "mean"))
        alive = [[places[k] for k in kept] for places, kept in zip(alive, plan.kept.tolist(), strict=True)]
    for i in range(len(tokens.x)):
        walk = [-1, *alive[i]] if not reverse else [*alive[i], length]
        wanted = [b - a - 1 for a, b in pairwise(walk)]
        assert gaps.gap[reverse][i, :, 0].tolist() == wanted


def test_a_plan_that_only_closes_up_passes_gaps_on():
    """Merging takes the sources' places away without opening new ones; the gaps before them stay."""
    source = torch.tensor([[2, 3, 6]])
    plan = Plan.joining(source, torch.tensor([[1, 1, 7]]), 8)
    gap = torch.tensor([3.0, 0, 1, 2, 0, 5, 7, 4])[None, :, None]
    moved = Gaps((gap, gap), "neighbour").moved(plan)
    assert moved.gap[0][0, :, 0].tolist() == [3, 0, 3, 5, 11]
    assert moved.gap[1][0, :, 0].tolist() == [3, 3, 0, 12, 4]
    assert Stretch(gap[..., 0]).moved(plan).factor.tolist() == [[3, 0, 0, 5, 4]]


@pytest.mark.parametrize("name", ["in_proj", "conv1d", "conv1d_b", "x_proj", "dt_proj", "dt_proj_b", "out_proj"])
def test_a_wrapped_layer_computes_what_the_layer_does(name):
    torch.manual_seed(0)
    mixer, x = BidirectionalMixer(CONFIG), torch.randn(2, LENGTH, CONFIG.dim)
    expected, _ = mixer(x)
    setattr(mixer, name, nn.Sequential(getattr(mixer, name)))
    torch.testing.assert_close(mixer(x)[0], expected)


@pytest.mark.parametrize("name", ["in_proj", "conv1d", "conv1d_b", "x_proj", "dt_proj", "dt_proj_b", "out_proj"])
def test_a_weight_that_a_hook_makes_is_made_at_every_call(name):
    torch.manual_seed(0)
    mixer, x = BidirectionalMixer(CONFIG), torch.randn(2, LENGTH, CONFIG.dim)
    layer = getattr(mixer, name)
    prune.identity(layer, "weight")
    before, _ = mixer(x)
    before.sum().backward()
    assert layer.weight_orig.grad.abs().sum() > 0
    with torch.no_grad():
        layer.weight_orig.mul_(2)
        assert not torch.allclose(mixer(x)[0], before, rtol=1e-3, atol=0)
