import sys
from itertools import product
from pathlib import Path

import pytest
import torch

from rmeeto import TokenMerge
from rmeeto.errors import ConfigError, UnknownName
from rmeeto.reduction import TokenPrune, parse_reduction
from rmeeto.reduction.plan import take
from rmeeto.reduction.tokens import Tokens

sys.path.insert(0, str(Path(__file__).parent))
import naive
from draws import at, random_features, random_tokens

OPTIONS = list(
    product(
        ["X", "B", "C", "delta"],
        ["cosine", "l1", "l2"],
        ["odd-even", "front-behind"],
        [1, 3],
        ["kept", "dropped", "odd-even"],
    )
)


@pytest.mark.parametrize(("features", "distance", "grouping", "nth", "order"), OPTIONS)
@pytest.mark.parametrize("op", ["sum", "mean", "max", "min", "prune"])
def test_equals_a_loop_over_tokens(features, distance, grouping, nth, order, op):
    tokens, r = random_tokens(), 7
    computed = random_features(tokens)
    options = {"features": features, "distance": distance, "grouping": grouping, "nth": nth, "order": order}
    method = TokenPrune(r=r, **options) if op == "prune" else TokenMerge(r=r, op=op, **options)
    reduced = method.step(tokens, computed, at(r))

    by = tokens.x if features == "X" else sum(computed.pair(features)) / 2
    for i in range(len(tokens.x)):
        protected = tokens.protected[i].tolist()
        pairs, ranked, targets = naive.choose(
            by[i].tolist(), protected, r, grouping=grouping, distance_name=distance, nth=nth
        )
        kept = naive.layout(tokens.length, protected, pairs, ranked, targets, order)
        absorbed = [] if op == "prune" else pairs
        for name in ("x", "residual"):
            values, sizes = naive.combine(
                getattr(tokens, name)[i].tolist(), tokens.size[i].tolist(), kept, absorbed, op
            )
            torch.testing.assert_close(getattr(reduced, name)[i], torch.tensor(values, dtype=torch.float64))
        assert reduced.size[i].tolist() == sizes
        assert [kept[place] for place in reduced.protected[i]] == protected
        ended = {survivor: place for place, survivor in enumerate(kept)}
        ended |= {source: ended[target] if op != "prune" else -1 for source, target in pairs}
        assert reduced.group()[i].tolist() == [ended[j] for j in range(tokens.length)]


class OtherMethod(Exception):
    """A user's own method was called."""


def other_method(*args, **kwargs):
    raise OtherMethod


@pytest.mark.parametrize("name", ["step", "plan", "apply", "at_once"])
@pytest.mark.parametrize("where", ["a subclass", "an instance", "the class itself"])
def test_a_method_of_ones_own_is_called_in_inference_too(name, where, monkeypatch):
    method, tokens = TokenMerge(r=4), random_tokens()
    tokens = tokens.replace(x=tokens.x.float(), residual=tokens.residual.float(), size=tokens.size.float())
    if where == "a subclass":
        method = type("Own", (TokenMerge,), {name: other_method})(r=4)
    elif where == "an instance":
        object.__setattr__(method, name, other_method)
    else:
        monkeypatch.setattr(TokenMerge, name, other_method)
    for inference in (False, True):
        with torch.inference_mode(inference), pytest.raises(OtherMethod):
            method.step(tokens, None, at(4))


METHODS = [
    TokenMerge(r=4),
    TokenMerge(r=4, op="max", order="odd-even"),
    TokenMerge(r=4, grouping="random", rank="random", pairing="random", order="dropped"),
    TokenMerge(r=4, shuffle=0.5),
    TokenPrune(r=4),
    TokenPrune(r=4, grouping="random", shuffle=1.0),
]


@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.parametrize("length", [9, 10, 23])
def test_properties_over_successive_steps(method, length):
    start = tokens = random_tokens(length).replace(size=None)
    protected_values = take(tokens.x, tokens.protected)
    left = length
    for _ in range(3):
        r = min(4, (left - 2) // 2)
        tokens, left = method.step(tokens, None, at(r)), left - r
        assert tokens.length == left
        torch.testing.assert_close(take(tokens.x, tokens.protected), protected_values, rtol=0, atol=0)
        group = tokens.group()
        for i in range(3):
            members = torch.bincount(group[i][group[i] >= 0], minlength=left)
            assert members.tolist() == tokens.sizes()[i].tolist()  # every size counts its own originals
            assert members[tokens.protected[i]].tolist() == [1, 1]
            assert (members >= 1).all()
            if isinstance(method, TokenMerge):
                assert (group[i] >= 0).all()
                assert tokens.sizes()[i].sum() == length
    # a sum of patches weighted by size is conserved by weighted merging, for every plan
    if isinstance(method, TokenMerge) and method.op == "sum":
        torch.testing.assert_close((tokens.x * tokens.sizes()[..., None]).sum(1), start.x.sum(1))


@pytest.mark.parametrize("method", [TokenMerge(r=5), TokenPrune(r=5)], ids=str)
def test_order_is_kept(method):
    tokens = random_tokens().replace(size=None)
    reduced = method.step(tokens, None, at(5))
    for kept in reduced.plans[0].kept:
        assert kept.tolist() == sorted(kept.tolist())


def test_untouched_tokens_keep_their_bits():
    tokens = random_tokens().replace(x=torch.randn(3, 23, 6), residual=None, size=torch.full((3, 23), 3.0))
    reduced = TokenMerge(r=5).step(tokens, None, at(5))
    plan = reduced.plans[0]
    for i in range(3):
        alone = [p for p in range(18) if p not in plan.target[i].tolist()]
        assert torch.equal(reduced.x[i, alone], tokens.x[i, plan.kept[i, alone]])


def test_equal_similarities_rank_by_index():
    x = torch.ones(1, 11, 4)
    reduced = TokenMerge(r=3).step(Tokens(x, None, torch.tensor([[5]])), None, at(3))
    assert sorted(reduced.plans[0].source[0].tolist()) == [0, 2, 4]
    assert reduced.group()[0, [0, 2, 4]].tolist() == [0, 0, 0]  # every one of them goes to the first target


def test_zero_vectors_do_not_poison_the_choice():
    x = torch.randn(1, 11, 4)
    x[0, 2] = 0
    assert TokenMerge(r=3).step(Tokens(x, None, torch.tensor([[5]])), None, at(3)).x.isfinite().all()


def test_gradients_reach_values_not_the_choice():
    x = torch.randn(2, 11, 4, dtype=torch.float64, requires_grad=True)

    def merged(x, op):
        return TokenMerge(r=3, op=op).step(Tokens(x, None, torch.tensor([[5], [2]])), None, at(3)).x

    for op in ("sum", "mean", "max", "min"):
        assert torch.autograd.gradcheck(lambda x, op=op: merged(x, op), x)


def test_the_class_token_stays_with_its_image():
    """Its place depends on how many tokens before it leave, image by image."""
    x = torch.randn(64, 101, 8)
    tokens = Tokens(x, None, torch.full((64, 1), 50))
    places = TokenMerge(r=20).step(tokens, None, at(20)).cls_index
    assert len(places.unique()) > 3


@pytest.mark.parametrize("rank", ["top", "random"])
def test_random_choices_follow_torch_s_generator(rank):
    tokens = random_tokens()
    method = TokenMerge(r=4, grouping="random", rank=rank)
    torch.manual_seed(3)
    first = method.step(tokens, None, at(4)).group()
    second = method.step(tokens, None, at(4)).group()
    torch.manual_seed(3)
    assert torch.equal(method.step(tokens, None, at(4)).group(), first)
    assert not torch.equal(first, second)


def test_unmerge_copies_back():
    tokens = random_tokens()
    once = TokenMerge(r=4).step(tokens, None, at(4))
    twice = TokenMerge(r=4).step(once, None, at(4))
    full = twice.unmerge(twice.x)
    assert full.shape == tokens.x.shape
    for i in range(3):
        assert torch.equal(full[i], twice.x[i, twice.group()[i]])
    pruned = TokenPrune(r=4).step(tokens, None, at(4))
    back = pruned.unmerge(torch.ones(3, 19))
    assert torch.equal(back == 0, pruned.group() < 0)


@pytest.mark.parametrize(
    "text",
    [
        "merge:r=11",
        "merge:r=11,features=C",
        "merge:r=5*10+71",
        "merge:ratio=0.31,blocks=6::6,op=max",
        "merge:r=1*3",
        "merge:r=3,order=odd-even,shuffle=0.25,nth=14,grouping=front-behind,rank=random,pairing=random",
        "prune:r=11,blocks=odd,distance=l1",
        "released:r=5,final=142",
        "released:r=5,ordered=False,pruned=True,shuffle=0.3",
    ],
)
def test_text_form_reads_back(text):
    method = parse_reduction(text)
    assert parse_reduction(str(method)) == method
    assert str(parse_reduction(str(method))) == str(method)
    assert hash(method) == hash(parse_reduction(text))


def test_values_print_as_one_line():
    assert str(TokenMerge(r=[5] * 10 + [71])) == "merge:r=5*10+71"
    assert repr(TokenMerge(r=11, features="C")) == "TokenMerge('merge:r=11,features=C')"
    assert parse_reduction("none") is None


@pytest.mark.parametrize(
    ("text", "error", "hint"),
    [
        ("merg:r=1", UnknownName, "merge"),
        ("merge:r=1,feature=B", UnknownName, "features"),
        ("merge:r=1,features=dt", UnknownName, "delta"),
        ("merge:r=-1", ConfigError, "zero or more"),
        ("merge:r=two", ConfigError, "r takes"),
        ("merge:", ConfigError, "exactly one of r, ratio"),
        ("merge:r=1,ratio=0.2", ConfigError, "exactly one of r, ratio"),
        ("merge:ratio=1.5", ConfigError, "below 1"),
        ("merge:r=1,r=2", ConfigError, "once"),
        ("merge:r", ConfigError, "with a value"),
        ("merge:r=1,nth=0", ConfigError, "nth=1"),
        ("merge:r=1,shuffle=2", ConfigError, "between 0 and 1"),
    ],
)
def test_bad_text_says_what_is_wrong(text, error, hint):
    with pytest.raises(error, match=hint):
        parse_reduction(text)
