"""Proposition 2 and Corollary 1 on our scans, and what does not follow from them."""

import math

import pytest
import torch

from cpp_kernels import needs_kernels
from rmeeto.analysis.causality import Dependence, depends_on, directions, influence, sensitivity
from rmeeto.analysis.estimators import nearest_neighbours, samples
from rmeeto.errors import UnknownName, UnsupportedInput
from rmeeto.ops import causal_conv, selective_scan
from small_models import model_of

WAYS = ("perturbation", "jacobian")
LENGTH = 7
each_way = pytest.mark.parametrize("by", WAYS)
each_scan = pytest.mark.parametrize(
    ("impl", "dtype"),
    [
        ("reference", torch.float64),
        ("reference", torch.float32),
        pytest.param("cpp", torch.float32, marks=needs_kernels),
    ],
)

earlier = torch.ones(LENGTH, LENGTH).tril().bool()


def scan(impl, dtype, *, reverse):
    """A scan of ``(b, l, d)`` tokens whose step sizes and weights are made from the same tokens."""
    torch.manual_seed(0)
    A, to_delta, to_B, to_C = -torch.rand(6, 4), torch.randn(6, 6), torch.randn(6, 4), torch.randn(6, 4)
    A, to_delta, to_B, to_C = (x.to(dtype) for x in (A, to_delta, to_B, to_C))
    return lambda u: selective_scan(
        u, u @ to_delta, A, u @ to_B, u @ to_C, gate=u, delta_softplus=True, reverse=reverse, impl=impl
    )


def tokens(width=6, dtype=torch.float64):
    torch.manual_seed(1)
    return torch.randn(2, LENGTH, width, dtype=dtype)


def mixer(impl):
    model = model_of(impl=impl)
    torch.manual_seed(2)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.layers[1].mixer


@each_scan
@each_way
def test_proposition_2_a_scan_depends_on_the_present_and_all_earlier_inputs_and_on_no_later_one(impl, by, dtype):
    found = depends_on(scan(impl, dtype, reverse=False), tokens(dtype=dtype), by=by)
    assert torch.equal(found.table, earlier)
    assert (found.on_earlier, found.on_later) == (True, False)
    assert str(found) == "outputs depend on earlier inputs"


@each_scan
@each_way
def test_corollary_1_a_reverse_scan_depends_on_no_earlier_input(impl, dtype, by):
    found = depends_on(scan(impl, dtype, reverse=True), tokens(dtype=dtype), by=by)
    assert torch.equal(found.table, earlier.mT)
    assert str(found) == "outputs depend on later inputs"


@pytest.mark.parametrize("impl", ["reference", pytest.param("cpp", marks=needs_kernels)])
@each_way
def test_both_hold_for_a_whole_direction_of_a_mixer_and_neither_for_a_block(impl, by):
    parts, x = directions(mixer(impl)), tokens(24, torch.float32)
    assert torch.equal(depends_on(parts["forward"], x, by=by).table, earlier)
    assert torch.equal(depends_on(parts["backward"], x, by=by).table, earlier.mT)
    both = depends_on(parts["both"], x, by=by)
    assert both.table.all()
    assert str(both) == "outputs depend on earlier and on later inputs"


@each_way
def test_a_convolution_depends_on_as_many_inputs_as_it_has_taps(by):
    weight = torch.randn(6, 1, 3, dtype=torch.float64)
    found = depends_on(lambda x: causal_conv(x, weight), tokens(), by=by)
    assert torch.equal(found.table, earlier.triu(-2))


@each_way
def test_attention_depends_on_everything_and_a_linear_layer_on_no_other_token(by):
    def attention(x):
        return torch.nn.functional.scaled_dot_product_attention(x, x, x)

    assert depends_on(attention, tokens(), by=by).table.all()
    linear = depends_on(torch.nn.Linear(6, 4).double(), tokens(), by=by)
    assert torch.equal(linear.table, torch.eye(LENGTH).bool())
    assert str(linear) == "outputs depend on no other token"


def test_the_derivative_has_the_size_of_the_whole_jacobian():
    function, x = scan("reference", torch.float64, reverse=False), tokens()[:1]
    whole = torch.autograd.functional.jacobian(function, x)[0, :, :, 0].norm(dim=(1, 3))
    drawn = torch.stack([sensitivity(function, x, seed=seed) for seed in range(30)]).square().mean(0).sqrt()
    present = whole > 0
    assert torch.equal(drawn > 0, present)
    assert ((drawn / whole)[present].log().abs() < 0.8).all()


def test_influence_is_what_replacing_a_token_changes():
    x = tokens()
    found = influence(lambda u: 2 * u, x)
    assert torch.equal(found > 0, torch.eye(LENGTH).bool())
    assert torch.equal(influence(lambda u: 2 * u, x), found)
    assert not torch.equal(influence(lambda u: 2 * u, x, seed=1), found)


def test_an_output_that_does_not_depend_on_an_input_may_still_have_information_about_it():
    """The paper's "thus I(Y_{0:t}; X_t) = 0": tokens that resemble each other refute it.

    X_1 = ρ X_0 + noise, and the causal output Y_0 = X_0 never sees X_1; yet I(Y_0; X_1) = -½ log(1 - ρ²). Given X_0,
    what is left of X_1 is the noise, and Y_0 has nothing in common with that.
    """
    rho, count = 0.9, 1500
    first, noise = torch.randn(2, count, 1, 1, dtype=torch.float64)
    x = torch.cat([first, rho * first + math.sqrt(1 - rho**2) * noise], 1)
    rate, ones = -torch.ones(1, 1, dtype=torch.float64), torch.ones(count, 2, 1, dtype=torch.float64)

    def causal(u):
        return selective_scan(u, ones[: len(u)], rate, ones[: len(u)], ones[: len(u)], impl="reference")

    assert not depends_on(causal, x[:1]).on_later
    output = causal(x)[:, 0]
    assert nearest_neighbours(samples(output, x[:, 1]), 4) == pytest.approx(-0.5 * math.log(1 - rho**2), abs=0.1)
    assert nearest_neighbours(samples(output, x[:, 1] - rho * x[:, 0]), 4) == pytest.approx(0, abs=0.06)


def test_what_cannot_be_asked_is_refused_with_the_reason():
    x = tokens()
    with pytest.raises(UnknownName, match="did you mean perturbation"):
        depends_on(lambda u: u, x, by="perturb")
    with pytest.raises(UnsupportedInput, match=r"x is \(b, l, d\)"):
        depends_on(lambda u: u, x[0])
    with pytest.raises(UnsupportedInput, match=r"it must be \(b, l, e\)"):
        depends_on(lambda u: u[:, 1:], x)
    with pytest.raises(UnsupportedInput, match="tuple"):
        depends_on(lambda u: (u, u), x)
    with pytest.raises(UnsupportedInput, match="a function without a derivative"):
        depends_on(torch.no_grad()(lambda u: 2 * u), x, by="jacobian")
    for by in WAYS:
        with pytest.raises(UnsupportedInput, match="NaN or infinity"):
            depends_on(lambda u: u / 0, x, by=by)


def test_dependence_is_read_off_its_table():
    table = torch.eye(3).bool()
    table[0, 2] = True
    assert (Dependence(table).on_earlier, Dependence(table).on_later) == (False, True)
