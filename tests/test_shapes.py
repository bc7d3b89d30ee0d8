"""Annotated shapes are checked in tests, and cost nothing elsewhere."""

import pickle
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from rmeeto.errors import UnsupportedInput
from rmeeto.ops import add_norm, merge_rows
from rmeeto.ops.select import is_intercepted
from rmeeto.reduction.plan import OrderedPlan, Plan
from rmeeto.reduction.tokens import Features, Tokens
from shape_checks import WrongShape
from small_models import images_of, model_of


def tokens(**changes):
    return replace(Tokens(torch.rand(2, 5, 8), torch.rand(2, 5, 8), torch.zeros(2, 1, dtype=torch.int64)), **changes)


def test_tokens_whose_fields_fit_are_taken():
    assert tokens(size=torch.ones(2, 5), lengths=torch.tensor([5, 5])).length == 5


@pytest.mark.parametrize(
    "field",
    [
        {"x": torch.rand(5, 8)},  # no batch
        {"x": torch.rand(2, 6, 8)},  # another length than the residual's
        {"residual": torch.rand(2, 5, 9)},
        {"protected": torch.zeros(3, 1, dtype=torch.int64)},  # another batch
        {"protected": torch.zeros(2, 1)},  # positions in floating point
        {"size": torch.ones(2, 4)},
        {"size": torch.ones(2, 5, dtype=torch.int64)},
        {"lengths": torch.tensor([[5], [5]])},
    ],
)
def test_tokens_of_a_wrong_shape_are_refused(field):
    with pytest.raises(WrongShape, match=f"Tokens.__init__: .* {next(iter(field))} is|Tokens.__init__: "):
        tokens(**field)


def test_a_plan_of_a_wrong_shape_is_refused():
    kept, source = torch.tensor([[0, 2]]), torch.tensor([[1]])
    assert Plan(kept, source, torch.tensor([[0]])).length == 3
    with pytest.raises(WrongShape, match="target"):
        Plan(kept, source, torch.tensor([[0, 1]]))
    with pytest.raises(WrongShape, match="place"):
        OrderedPlan(kept, source, None, torch.tensor([[0, -1]]))


def test_features_of_a_wrong_shape_are_refused():
    pair, bias = (torch.rand(2, 5, 4), torch.rand(2, 5, 4)), (torch.rand(8), torch.rand(8))
    assert Features(pair, pair, None, None, bias)
    with pytest.raises(WrongShape, match="C is"):
        Features(pair, (pair[0], torch.rand(2, 6, 4)), None, None, bias)


def test_a_model_s_images_and_logits_are_checked(monkeypatch):
    model = model_of()
    images = images_of(model)
    assert model(images).shape == (2, 7)
    monkeypatch.setattr(model, "classify", lambda tokens: tokens.x[:1])
    with pytest.raises(WrongShape, match=r"VisionMamba.forward: return is \(1, "):
        model(images)


def test_an_operation_that_refuses_a_shape_does_so_with_its_own_error():
    with pytest.raises(UnsupportedInput, match="add_norm"):
        add_norm(torch.rand(2, 5, 8), None, torch.rand(7))


def test_a_shape_that_an_operation_does_not_look_at_is_refused():
    with pytest.raises(WrongShape, match="share"):
        merge_rows(
            torch.rand(1, 3, 8),
            *map(torch.tensor, ([[0, 2]], [[1]], [[0]])),
            share=torch.tensor([[1]]),  # whole numbers
        )


def test_what_is_compiled_is_not_checked():
    def wrong(x):
        return Tokens(x, x[:1], torch.zeros(7, 1, dtype=torch.int64)).length if is_intercepted() else 0

    assert torch.compile(wrong, backend="eager", fullgraph=True)(torch.rand(2, 5, 8)) == 5


def test_checked_values_can_be_pickled():
    before = tokens()
    assert torch.equal(pickle.loads(pickle.dumps(before)).x, before.x)


def test_no_checker_is_imported_outside_of_tests():
    code = (
        "import sys, torch, rmeeto; rmeeto.create_model('vim_digits')(torch.zeros(1, 1, 16, 16))\n"
        "assert not {'jaxtyping', 'beartype'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
