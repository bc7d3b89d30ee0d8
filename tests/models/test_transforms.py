"""Models under PyTorch's function transforms and forward-mode differentiation, against loops."""

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import forward_ad
from torch.func import functional_call, grad, jvp, stack_module_state, vjp, vmap

import small_models
from rmeeto import TokenMerge, freeze
from rmeeto.reduction import TokenPrune
from small_models import images_of

# PyTorch's forward mode loads a script of its own
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
REDUCTIONS = [None, TokenMerge(r=3), TokenMerge(r=3, features="C"), TokenPrune(r=3)]
LABELS = torch.arange(3)


def model_of(reduction):
    return small_models.model_of(img_size=16, depth=3, reduction=reduction)


@pytest.fixture(params=REDUCTIONS, ids=str)
def reduction(request):
    return request.param


@pytest.fixture(params=[torch.float32, torch.float64], ids=str)
def model(request, reduction):
    return model_of(reduction).to(request.param)


@pytest.fixture
def images(model):
    return images_of(model, batch=3).to(model.pos_embed.dtype)


def assert_same_gradients(found, expected):
    for name, gradient in expected.items():
        largest = gradient.abs().max().item()
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-5 * largest + 1e-9, msg=name)


def test_gradients_of_each_image(model, images):
    def loss(parameters, image, label):
        return F.cross_entropy(functional_call(model, parameters, (image[None],)), label[None])

    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}
    found = vmap(grad(loss), in_dims=(None, 0, 0))(parameters, images, LABELS)
    for i in range(3):
        model.zero_grad()
        F.cross_entropy(model(images[i : i + 1]), LABELS[i : i + 1]).backward()
        expected = {name: parameter.grad for name, parameter in model.named_parameters()}
        assert_same_gradients({name: gradient[i] for name, gradient in found.items()}, expected)


def test_images_one_by_one(model, images):
    with torch.no_grad():
        found, expected = vmap(lambda image: model(image[None])[0])(images), model(images)
    torch.testing.assert_close(found, expected)


def test_an_ensemble(reduction):
    models = [model_of(reduction) for _ in range(2)]
    torch.nn.init.normal_(models[1].head.weight)
    torch.nn.init.normal_(models[1].layers[0].mixer.A_log)
    images, stacked = images_of(models[0]), stack_module_state(models)
    with torch.no_grad():
        found = vmap(lambda *state: functional_call(models[0], state, (images,)))(*stacked)
        for logits, model in zip(found, models, strict=True):
            torch.testing.assert_close(logits, model(images))


@pytest.mark.parametrize("make_ready", [lambda model: model, freeze], ids=["as made", "frozen"])
def test_tangents_of_images(model, images, make_ready):
    model = make_ready(model)
    with torch.no_grad():
        model(images)  # a frozen model packs its weights
    directions = torch.randn_like(images)
    logits, found = jvp(model, (images,), (directions,))
    torch.testing.assert_close(logits, model(images))
    weights = torch.randn_like(logits)
    across = (vjp(model, images)[1](weights)[0] * directions).sum()
    torch.testing.assert_close((weights * found).sum(), across, rtol=1e-3, atol=1e-4)
    with torch.no_grad(), forward_ad.dual_level():
        dual = forward_ad.unpack_dual(model(forward_ad.make_dual(images, directions)))
    torch.testing.assert_close(dual.tangent, found, rtol=1e-3, atol=1e-5)


def test_tangents_of_parameters_in_the_direction_of_their_gradients(model, images):
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}

    def loss(parameters):
        return F.cross_entropy(functional_call(model, parameters, (images,)), LABELS)

    gradients = grad(loss)(parameters)
    _, slope = jvp(loss, (parameters,), (gradients,))
    torch.testing.assert_close(slope, sum(gradient.square().sum() for gradient in gradients.values()))


def test_gradients_of_a_penalty_on_gradients(model, images):
    def gradients_of(model, images):
        model.zero_grad()
        images = images.clone().requires_grad_()
        (of_images,) = torch.autograd.grad(model(images).square().sum(), images, create_graph=True)
        of_images.square().sum().backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    found = gradients_of(model.train(), images)
    assert found.keys() == {name for name, _ in model.named_parameters()}
    model.double()
    expected = gradients_of(model, images.double())
    assert_same_gradients(found, {name: gradient.to(images.dtype) for name, gradient in expected.items()})


def test_a_frozen_model_as_a_function_of_other_parameters():
    model, other = freeze(model_of(TokenMerge(r=3))), model_of(TokenMerge(r=3))
    torch.nn.init.normal_(other.layers[2].mixer.out_proj.weight)
    images = images_of(model)
    with torch.no_grad():
        before = model(images)
        found = functional_call(model, dict(other.named_parameters()), (images,))
        torch.testing.assert_close(found, other(images))
        torch.testing.assert_close(model(images), before)
