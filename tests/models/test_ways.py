"""Every condition that decides which way a model goes: it is named, and the result is the same on every way."""

import pytest
import torch
from torch import nn

from cpp_kernels import needs_kernels
from rmeeto import TokenMerge, explain, freeze, thaw
from rmeeto.models.inference.conditions import why_not
from rmeeto.models.inference.explanation import Explanation, grouped
from rmeeto.reduction import parse_reduction
from small_models import images_of, model_of

pytestmark = needs_kernels


def nothing(model):
    pass


def thaw_all(model):
    thaw(model)


def thaw_a_block(model):
    thaw(model.layers[2])


def hook_a_block(model):
    model.layers[2].register_forward_hook(lambda module, inputs, output: None)


def hook_a_layer(model):
    model.layers[2].mixer.out_proj.register_forward_hook(lambda module, inputs, output: None)


def hook_the_head(model):
    model.head.register_forward_pre_hook(lambda module, inputs: None)


def wrap_a_layer(model):
    mixer = model.layers[2].mixer
    mixer.out_proj = nn.Sequential(mixer.out_proj)


def wrap_the_head(model):
    model.head = nn.Sequential(model.head)


def change_a_weight(model):
    with torch.no_grad():
        model.layers[2].mixer.in_proj.weight.mul_(0.9)


def change_a_setting(model):
    model.norm_f.eps = 1e-4


def replace_a_method(model):
    run = model.layers[2].mixer.combine
    model.layers[2].mixer.combine = lambda y: run(y)


def replace_a_method_of_the_model(model):
    run = model.pool
    model.pool = lambda tokens: run(tokens)


def ask_for_the_reference(model):
    model.impl = "reference"


def reading(line):
    def reduce(model):
        model.reduction = parse_reduction(line)

    reduce.__name__ = line
    return reduce


# What happens to a frozen model, the way it goes then, and what is said to stop a faster one.
CONDITIONS = [
    (nothing, "network", ""),
    (reading("merge:r=5"), "network", ""),
    (reading("stm:r=5"), "network", ""),
    (reading("stm:r=5,features=B"), "block op", "the reduction reads B"),
    (thaw_all, "layers", "the model is not frozen"),
    (thaw_a_block, "block op", "block 2 is not frozen"),
    (hook_a_block, "block op", "block 2 has a forward hook"),
    (hook_a_layer, "block op", "mixer.out_proj of block 2 has a forward hook"),
    (hook_the_head, "block op", "head has a forward hook"),
    (wrap_a_layer, "block op", "mixer of block 2 has another out_proj"),
    (wrap_the_head, "block op", "the model has another head"),
    (change_a_weight, "block op", "mixer.in_proj of block 2 has other values in weight"),
    (change_a_setting, "block op", "norm_f has eps=0.0001, no longer 1e-05"),
    (replace_a_method, "block op", "mixer of block 2 has a method"),
    (replace_a_method_of_the_model, "block op", "the model has a method"),
    (ask_for_the_reference, "layers", "impl='reference', no longer 'auto'"),
    (reading("merge:r=5,features=C"), "block op", "the reduction reads C"),
    (reading("merge:r=5,grouping=front-behind"), "block op", "the reduction has grouping=front-behind"),
    (reading("merge:r=5,stretch=0.5"), "block op", "the reduction has stretch=0.5"),
    (reading("prune:r=5"), "block op", "the reduction is a TokenPrune"),
]


@pytest.mark.parametrize(("change", "way", "reason"), CONDITIONS, ids=lambda value: getattr(value, "__name__", ""))
@torch.inference_mode()
def test_a_condition_is_named(change, way, reason):
    model = freeze(model_of())
    images = images_of(model)
    model(images)
    change(model)
    found = explain(model, images)
    assert found.way == way, str(found)
    assert reason in str(found)


@pytest.mark.parametrize("passes", [0, 1])
@pytest.mark.parametrize("change", [change for change, *_ in CONDITIONS], ids=lambda change: change.__name__)
@torch.inference_mode()
def test_all_ways_give_the_same(change, passes, calls):
    model = freeze(model_of())
    images = images_of(model)
    for _ in range(passes):
        model(images)
    change(model)
    reasons = why_not(model, images)
    calls.clear()
    logits = model(images)
    assert len(calls) == (not reasons), reasons
    torch.testing.assert_close(logits, thaw(model)(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"stride": 2}, "patches of (4, 4) start every (2, 2) pixels"),
        ({"num_classes": 0}, "head is a"),
        ({"conv_width": 5}, "5 taps"),
    ],
)
@torch.inference_mode()
def test_a_model_that_cannot_be_packed_says_why(options, reason):
    model = freeze(model_of(**options))
    assert any(reason in sentence for sentence in why_not(model, images_of(model)))


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (lambda images: images.double(), "the images are float64, the weights float32"),
        (lambda images: images[..., :-1], "the images are (3, 32, 31)"),
        (lambda images: images.to("meta"), "the tensors are on meta"),
    ],
)
@torch.inference_mode()
def test_images_that_do_not_fit_are_named(given, reason):
    model = freeze(model_of())
    assert any(reason in sentence for sentence in why_not(model, given(images_of(model))))


def test_gradients_leave_a_model_to_its_blocks():
    model = freeze(model_of())
    assert any("gradients are recorded" in reason for reason in explain(model, images_of(model)).reasons)
    assert explain(model) == Explanation("network")


def test_training_goes_block_by_block_unless_a_layer_is_hooked():
    model = model_of().train()
    assert explain(model, images_of(model)).way == "block op"
    for block in model.layers:
        block.mixer.in_proj.register_forward_hook(lambda module, inputs, output: None)
    found = explain(model, images_of(model))
    assert found.way == "layers"
    assert any(reason.startswith("each of blocks 0 to 3: ") for reason in found.reasons)


def test_other_models_go_by_their_layers():
    assert explain(nn.Linear(2, 3)).way == "layers"
    assert "a Linear has no faster way" in str(explain(nn.Linear(2, 3)))


def test_a_model_with_a_forward_of_its_own_is_not_called():
    model = freeze(model_of())
    model.forward = None
    assert explain(model).way == "layers"


def test_explaining_draws_no_random_numbers():
    model = freeze(model_of(reduction=TokenMerge(r=5, shuffle=0.5)))
    before = torch.get_rng_state()
    assert explain(model).way == "block op"
    assert torch.get_rng_state().equal(before)


def test_a_sentence_about_several_blocks_stands_there_once():
    sentences = ["block 0 is a", "b", "block 1 is a", "c of block 3", "c of block 1"]
    assert grouped(sentences) == ["each of blocks 0 to 1 is a", "b", "c of each of blocks 3, 1"]
