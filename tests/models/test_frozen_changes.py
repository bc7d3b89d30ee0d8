"""Every change after freezing takes effect at the next call, or is refused: frozen never means stale."""

import copy
from contextlib import contextmanager

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from cpp_kernels import needs_kernels
from rmeeto import TokenMerge, freeze, thaw
from rmeeto.models.inference.conditions import why_not
from rmeeto.models.layers import PatchEmbed, RMSNorm
from rmeeto.models.vim.backbone import VisionMamba
from rmeeto.models.vim.block import Block
from rmeeto.models.vim.mixers import BidirectionalMixer
from rmeeto.ops.impl import cpp
from small_models import images_of, model_of

pytestmark = needs_kernels
REDUCTIONS = [TokenMerge(r=5), TokenMerge(r=5, features="C")]  # the whole network in one call; block by block


def loud(model, seed=3):
    """Weights for which every change is seen in the logits."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


def other():
    return loud(model_of(), seed=4)


def mixer(model):
    return model.layers[2].mixer


def in_place(parameter):
    with torch.no_grad():
        parameter.mul_(-1.5)


# Loading into parts.


def load_head(model):
    model.head.load_state_dict(other().head.state_dict())


def load_patch_embed(model):
    model.patch_embed.load_state_dict(other().patch_embed.state_dict())


def load_final_norm(model):
    model.norm_f.load_state_dict(other().norm_f.state_dict())


def load_mixer(model):
    mixer(model).load_state_dict(other().layers[2].mixer.state_dict())


def load_in_proj(model):
    mixer(model).in_proj.load_state_dict(other().layers[2].mixer.in_proj.state_dict())


def load_dt_proj(model):
    mixer(model).dt_proj_b.load_state_dict(other().layers[2].mixer.dt_proj_b.state_dict())


def load_conv(model):
    mixer(model).conv1d.load_state_dict(other().layers[2].mixer.conv1d.state_dict())


def load_norm(model):
    model.layers[2].norm.load_state_dict(other().layers[2].norm.state_dict())


def load_block(model):
    model.layers[2].load_state_dict(other().layers[2].state_dict())


def load_all(model):
    model.load_state_dict(other().state_dict())


def load_all_by_assigning(model):
    model.load_state_dict(other().state_dict(), assign=True)


def load_mixer_by_assigning(model):
    mixer(model).load_state_dict(other().layers[2].mixer.state_dict(), assign=True)


# Other parts and parameters.


def assign_mixer(model):
    model.layers[2].mixer = other().layers[2].mixer


def assign_in_proj(model):
    mixer(model).in_proj = other().layers[2].mixer.in_proj


def assign_conv(model):
    mixer(model).conv1d_b = other().layers[2].mixer.conv1d_b


def assign_norm(model):
    model.layers[2].norm = other().layers[2].norm


def assign_block(model):
    model.layers[2] = other().layers[2]


def assign_layers(model):
    model.layers = other().layers


def assign_head(model):
    model.head = other().head


def assign_patch_embed(model):
    model.patch_embed.proj = other().patch_embed.proj


def assign_final_norm(model):
    model.norm_f = nn.LayerNorm(model.config.dim)


def assign_drop_path(model):
    model.layers[2].drop_path = nn.Hardtanh(-0.1, 0.1)


def assign_final_drop_path(model):
    model.drop_path = nn.Hardtanh(-0.1, 0.1)


def assign_head_weight(model):
    model.head.weight = nn.Parameter(-model.head.weight.detach())


def assign_pos_embed(model):
    model.pos_embed = nn.Parameter(-model.pos_embed.detach())


def assign_cls_token(model):
    model.cls_token = nn.Parameter(-model.cls_token.detach())


def assign_decay_rates(model):
    mixer(model).A_log = nn.Parameter(mixer(model).A_log.detach() - 2)


def without_bias(model):
    model.head.bias = None


def in_the_dictionary_of_parameters(model):
    mixer(model).in_proj._parameters["weight"] = other().layers[2].mixer.in_proj.weight


def in_the_dictionary_of_modules(model):
    mixer(model)._modules["in_proj"] = other().layers[2].mixer.in_proj


def reset_classifier(model):
    model.reset_classifier(7)
    loud(model.head)


def cut_off(model):
    model.prune_intermediate_layers(indices=[1], prune_head=False)


def wrap_in_adapter(model):
    mixer(model).out_proj = nn.Sequential(mixer(model).out_proj, nn.Hardtanh(-0.1, 0.1))


def wrap_convolution(model):
    mixer(model).conv1d_b = nn.Sequential(mixer(model).conv1d_b, nn.Hardtanh(-0.1, 0.1))


def wrap_the_projection_of_step_sizes(model):
    mixer(model).dt_proj = nn.Sequential(mixer(model).dt_proj, nn.Hardtanh(-0.5, 0.5))


# Values.


def change_a_weight_in_place(model):
    in_place(mixer(model).x_proj.weight)


def change_a_bias_in_place(model):
    in_place(mixer(model).dt_proj.bias)


def change_decay_rates_in_place(model):
    in_place(mixer(model).A_log)


def change_one_value_in_place(model):
    with torch.no_grad():
        model.head.weight[3, 5] = 7


def change_pos_embed_in_place(model):
    in_place(model.pos_embed)


def change_data_in_place(model):
    mixer(model).in_proj.weight.data.mul_(-1.5)


def change_through_numpy(model):
    model.head.weight.detach().numpy()[:] *= -1.5


def change_a_detached_view(model):
    model.head.weight.detach()[2] += 1


def replace_data(model):
    mixer(model).in_proj.weight.data = -mixer(model).in_proj.weight.data


def replace_data_by_set(model):
    with torch.no_grad():
        model.head.weight.set_(-model.head.weight.detach())


def initialise_anew(model):
    nn.init.normal_(model.patch_embed.proj.weight)


def copy_average_in(model):
    for average, weight in zip(model.parameters(), other().parameters(), strict=True):
        average.data.lerp_(weight.data, 0.5)


def step_of(optimizer):
    def step(model):
        for parameter in model.parameters():
            parameter.grad = torch.sin(torch.arange(parameter.numel())).view_as(parameter)
        optimizer(model.parameters()).step()

    return step


def head_trained_alone(model):
    model.head.train()
    model.head.weight.data.mul_(-1.5)
    model.head.eval()


def move_one_layer(model):
    mixer(model).out_proj.to(torch.float64).to(torch.float32)
    mixer(model).out_proj.weight.data.mul_(-1.5)


def half_one_layer(model):
    model.head.to(torch.bfloat16).to(torch.float32)


def vector_to_parameters(model):
    values = nn.utils.parameters_to_vector(model.parameters())
    nn.utils.vector_to_parameters(values * 0.7, model.parameters())


def flat_parameters(model):
    """All weights in one piece of memory, as sharded training and some optimizers lay them."""
    flat = torch.cat([parameter.detach().flatten() for parameter in model.layers[2].parameters()]) * 0.7
    done = 0
    for parameter in model.layers[2].parameters():
        parameter.data = flat[done : done + parameter.numel()].view_as(parameter)
        done += parameter.numel()


# Reparametrisations.


def parametrise_head(model):
    class Negative(nn.Module):
        def forward(self, weight):
            return -weight

    parametrize.register_parametrization(model.head, "weight", Negative())


def parametrise_in_proj(model):
    parametrizations.spectral_norm(mixer(model).in_proj)


def parametrise_step_sizes(model):
    parametrizations.spectral_norm(mixer(model).dt_proj)


def weight_norm_and_change(model):
    parametrizations.weight_norm(mixer(model).conv1d)
    in_place(mixer(model).conv1d.parametrizations.weight.original0)


def prune_out_proj(model):
    prune.l1_unstructured(mixer(model).out_proj, "weight", amount=0.5)


def prune_convolution(model):
    prune.l1_unstructured(mixer(model).conv1d, "weight", amount=0.5)
    in_place(mixer(model).conv1d.weight_orig)


def prune_for_good(model):
    prune_out_proj(model)
    prune.remove(mixer(model).out_proj, "weight")


# Settings.


def set_eps(model):
    model.layers[2].norm.eps = 2.0


def set_final_eps(model):
    model.norm_f.eps = 2.0


def set_scale(model):
    mixer(model).scale = -2.0


def set_impl(model):
    mixer(model).impl = "reference"
    in_place(mixer(model).in_proj.weight)


def set_padding(model):
    model.patch_embed.proj.padding_mode = "circular"
    in_place(model.patch_embed.proj.weight)


def set_config(model):
    model.config = model.config.changed(num_classes=7)
    in_place(model.head.weight)


def set_reduction(model):
    model.reduction = TokenMerge(r=9)


# Hooks.


def hook(model):
    model.layers[1].register_forward_hook(lambda module, inputs, output: (output[0].replace(x=-output[0].x), output[1]))


def hook_inside(model):
    mixer(model).out_proj.register_forward_hook(lambda module, inputs, output: -output)


def hook_before(model):
    mixer(model).in_proj.register_forward_pre_hook(lambda module, inputs: (-inputs[0],))


def hook_step_sizes(model):
    mixer(model).dt_proj.register_forward_hook(lambda module, inputs, output: output + 1)


def hook_convolution(model):
    mixer(model).conv1d_b.register_forward_hook(lambda module, inputs, output: -output)


def hook_norm(model):
    model.norm_f.register_forward_hook(lambda module, inputs, output: -output)


def hook_head(model):
    model.head.register_forward_hook(lambda module, inputs, output: -output)


def hook_drop_path(model):
    model.layers[2].drop_path.register_forward_hook(lambda module, inputs, output: -output)


# Methods.


def replace_forward_of_a_block(model):
    run = model.layers[2].forward
    model.layers[2].forward = lambda tokens, needs: run(tokens.replace(x=-tokens.x), needs)


def replace_forward_of_a_mixer(model):
    run = mixer(model).forward
    mixer(model).forward = lambda x, *args: run(-x, *args)


def replace_forward_of_a_layer(model):
    run = mixer(model).in_proj.forward
    mixer(model).in_proj.forward = lambda x: -run(x)


def replace_forward_of_the_head(model):
    run = model.head.forward
    model.head.forward = lambda x: -run(x)


def replace_join_of_a_norm(model):
    add_residual = model.layers[2].norm.add_residual
    model.layers[2].norm.add_residual = lambda x, residual: add_residual(-x, residual)


def replace_a_method_of_a_mixer(model):
    combine = mixer(model).combine
    mixer(model).combine = lambda y: -combine(y)


def replace_a_method_of_the_model(model):
    final_norm = model.final_norm
    model.final_norm = lambda tokens: final_norm(tokens.replace(x=-tokens.x))


def replace_embedding(model):
    embed = model.embed
    model.embed = lambda images: embed(-images)


def replace_class_of_a_block(model):
    class Negative(Block):
        def forward(self, tokens, needs=frozenset()):
            return super().forward(tokens.replace(x=-tokens.x), needs)

    model.layers[2].__class__ = Negative


def replace_class_of_a_mixer(model):
    class Negative(BidirectionalMixer):
        def combine(self, y):
            return -super().combine(y)

    mixer(model).__class__ = Negative


def replace_class_of_a_layer(model):
    class Negative(nn.Linear):
        def forward(self, x):
            return -super().forward(x)

    thaw(mixer(model).out_proj).__class__ = Negative


def replace_class_of_the_model(model):
    class Negative(VisionMamba):
        def embed(self, images):
            return super().embed(-images)

    model.__class__ = Negative


CHANGES = [
    *(load_head, load_patch_embed, load_final_norm, load_mixer, load_in_proj, load_dt_proj, load_conv, load_norm),
    *(load_block, load_all, load_all_by_assigning, load_mixer_by_assigning),
    *(assign_mixer, assign_in_proj, assign_conv, assign_norm, assign_block, assign_layers, assign_head),
    *(assign_patch_embed, assign_final_norm, assign_drop_path, assign_final_drop_path, assign_head_weight),
    *(assign_pos_embed, assign_cls_token, assign_decay_rates, without_bias, in_the_dictionary_of_parameters),
    *(
        in_the_dictionary_of_modules,
        reset_classifier,
        cut_off,
        wrap_in_adapter,
        wrap_convolution,
        wrap_the_projection_of_step_sizes,
    ),
    *(change_a_weight_in_place, change_a_bias_in_place, change_decay_rates_in_place, change_one_value_in_place),
    *(change_pos_embed_in_place, change_data_in_place, change_through_numpy, change_a_detached_view, replace_data),
    *(replace_data_by_set, initialise_anew, copy_average_in, head_trained_alone, move_one_layer, half_one_layer),
    *(vector_to_parameters, flat_parameters),
    *(parametrise_head, parametrise_in_proj, parametrise_step_sizes, weight_norm_and_change),
    *(prune_out_proj, prune_convolution, prune_for_good),
    *(set_eps, set_final_eps, set_scale, set_impl, set_padding, set_config, set_reduction),
    *(hook, hook_inside, hook_before, hook_step_sizes, hook_convolution, hook_norm, hook_head, hook_drop_path),
    *(replace_forward_of_a_block, replace_forward_of_a_mixer, replace_forward_of_a_layer, replace_forward_of_the_head),
    *(replace_join_of_a_norm, replace_a_method_of_a_mixer, replace_a_method_of_the_model, replace_embedding),
    *(replace_class_of_a_block, replace_class_of_a_mixer, replace_class_of_a_layer, replace_class_of_the_model),
]
STEPS = {
    "sgd": step_of(lambda parameters: torch.optim.SGD(parameters, lr=0.1)),
    "adamw": step_of(lambda parameters: torch.optim.AdamW(parameters, lr=0.1)),
    "adamw_for_each": step_of(lambda parameters: torch.optim.AdamW(parameters, lr=0.1, foreach=True)),
    "adamw_fused": step_of(lambda parameters: torch.optim.AdamW(parameters, lr=0.1, fused=True)),
}


@pytest.fixture(params=["the library", "python"])
def looking(request, monkeypatch):
    """Who looks whether objects have changed; Python does where it cannot hand its functions to the library."""
    if request.param == "python":
        monkeypatch.setattr(cpp, "readers", lambda: None)


def logits(model, images):
    with torch.inference_mode():
        return model(images)


def check_seen(model, images, change):
    before = logits(model, images)
    change(model)
    with torch.inference_mode():
        reasons = why_not(model, images)
    after = logits(model, images)
    torch.testing.assert_close(after, logits(thaw(model), images), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(after, before, rtol=1e-3, atol=1e-3), "a change that changes nothing tests nothing"
    return reasons


@pytest.mark.parametrize("reduction", REDUCTIONS, ids=["network", "blocks"])
@pytest.mark.parametrize("change", [pytest.param(change, id=change.__name__) for change in CHANGES])
def test_a_change_takes_effect_at_the_next_call_and_is_named(change, reduction, calls):
    model = freeze(loud(model_of(reduction=reduction)))
    reasons = check_seen(model, images_of(model), change)
    assert len(calls) == (reduction is REDUCTIONS[0]) + (not reasons), reasons


@pytest.mark.usefixtures("looking")
@pytest.mark.parametrize("step", STEPS)
def test_a_step_of_an_optimizer_takes_effect(step):
    model = freeze(loud(model_of(reduction=REDUCTIONS[0])))
    check_seen(model, images_of(model), STEPS[step])


@pytest.mark.usefixtures("looking")
@pytest.mark.parametrize(
    "change",
    [
        *(assign_head_weight, in_the_dictionary_of_modules, change_one_value_in_place, change_data_in_place),
        *(replace_data, set_eps, hook_inside, replace_forward_of_a_layer, assign_layers),
    ],
)
def test_python_and_the_library_see_the_same(change):
    model = freeze(loud(model_of(reduction=REDUCTIONS[0])))
    check_seen(model, images_of(model), change)


@contextmanager
def other_values(model):
    """What `torch.func.functional_call` does while it calls the model."""
    weights = {name: value.detach() * 0.7 for name, value in model.named_parameters()}
    yield lambda images: torch.func.functional_call(model, weights, (images,))


@contextmanager
def hook_on_all_modules(model):
    def negate(module, inputs, output):
        return -output if isinstance(output, torch.Tensor) else None

    handle = nn.modules.module.register_module_forward_hook(negate)
    yield model
    handle.remove()


@contextmanager
def hook_before_all_modules(model):
    def negate(module, inputs):
        return tuple(-x if isinstance(x, torch.Tensor) else x for x in inputs)

    handle = nn.modules.module.register_module_forward_pre_hook(negate)
    yield model
    handle.remove()


def replaced_method(kind, name):
    """A method of a class is replaced while models of it are frozen."""

    @contextmanager
    def replace(model):
        method = getattr(kind, name)

        def negated(self, x, *args, **kwargs):
            return method(self, -x if isinstance(x, torch.Tensor) else x.replace(x=-x.x), *args, **kwargs)

        setattr(kind, name, negated)
        try:
            yield model
        finally:
            setattr(kind, name, method)

    return replace


@contextmanager
def drop_paths_at_work(model):
    for block in model.layers:
        block.drop_path.drop_prob = 1.0
        block.drop_path.train()
    yield model
    for block in model.layers:
        block.drop_path.drop_prob = 0.0
        block.drop_path.eval()


PASSING = {
    "functional_call": other_values,
    "a hook on all modules": hook_on_all_modules,
    "a hook before all modules": hook_before_all_modules,
    "drop paths at work": drop_paths_at_work,
    "the class of blocks": replaced_method(Block, "forward"),
    "a method of blocks": replaced_method(Block, "add_residual"),
    "the class of mixers": replaced_method(BidirectionalMixer, "forward"),
    "a method of mixers": replaced_method(BidirectionalMixer, "combine"),
    "the class of norms": replaced_method(RMSNorm, "add_residual"),
    "the class of layers": replaced_method(nn.Linear, "forward"),
    "the class of patches": replaced_method(PatchEmbed, "forward"),
    "the class of models": replaced_method(VisionMamba, "embed"),
}


@pytest.mark.parametrize("reduction", REDUCTIONS, ids=["network", "blocks"])
@pytest.mark.parametrize("name", PASSING)
def test_a_change_that_passes_takes_effect_and_is_forgotten(name, reduction, calls):
    model = freeze(loud(model_of(reduction=reduction)))
    images = images_of(model)
    before = logits(model, images)
    thawed = copy.deepcopy(model)
    with PASSING[name](model) as changed:
        found = logits(changed, images)
    with PASSING[name](thawed) as changed:
        torch.testing.assert_close(found, logits(changed, images), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(found, before, rtol=1e-3, atol=1e-3)
    calls.clear()
    assert logits(model, images).equal(before)
    assert len(calls) == (reduction is REDUCTIONS[0])


def evaluate_again(model):
    model.eval()


def describe(model):
    model.description, model.head.name = "a name of one's own", "head"


def freeze_gradients(model):
    model.requires_grad_(False)


def hook_and_remove(model):
    mixer(model).out_proj.register_forward_hook(lambda module, inputs, output: -output).remove()


def set_the_same_again(model):
    model.norm_f.eps, model.layers[0].norm.eps, model.impl = float("1e-5"), float("1e-5"), "cpp"


def collect_gradients(model):
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    torch.optim.AdamW(model.parameters()).zero_grad()


@pytest.mark.usefixtures("looking")
@pytest.mark.parametrize(
    "change",
    [evaluate_again, describe, freeze_gradients, hook_and_remove, set_the_same_again, collect_gradients],
)
def test_what_changes_nothing_leaves_the_model_frozen(change, calls):
    model = freeze(loud(model_of(reduction=REDUCTIONS[0])))
    images = images_of(model)
    before = logits(model, images)
    calls.clear()
    for _ in range(2):
        change(model)
        assert logits(model, images).equal(before)
    assert len(calls) == 2


def test_tensors_are_not_swapped_behind_a_frozen_model():
    model = freeze(loud(model_of()))
    logits(model, images_of(model))
    with pytest.raises(RuntimeError, match="weakref"):
        torch.utils.swap_tensors(model.head.weight, nn.Parameter(-model.head.weight.detach()))
    thaw(model)
    torch.utils.swap_tensors(model.head.weight, nn.Parameter(-model.head.weight.detach()))


@pytest.mark.parametrize("reduction", REDUCTIONS, ids=["network", "blocks"])
def test_weights_of_inference_mode_are_never_stale(reduction, calls):
    """PyTorch does not count their changes, so ordinary ones take their places."""
    with torch.inference_mode():
        model = loud(model_of(reduction=reduction))
        model.layers[1].mixer.D_b = model.layers[1].mixer.D
        freeze(model)
    assert model.layers[1].mixer.D_b is model.layers[1].mixer.D
    check_seen(model, images_of(model), torch.inference_mode()(change_one_value_in_place))
    assert len(calls) == (reduction is REDUCTIONS[0])


def test_a_model_frozen_again_computes_by_its_new_weights(calls):
    model = freeze(loud(model_of()))
    images = images_of(model)
    before = logits(model, images)
    change_one_value_in_place(model)
    after = logits(model, images)
    assert len(calls) == 1
    torch.testing.assert_close(logits(freeze(model), images), after, rtol=1e-4, atol=1e-4)
    assert len(calls) == 2
    assert not torch.allclose(after, before)


@pytest.mark.parametrize(
    "changed", ["embed", "add_positions", "forward_blocks", "reduce_at", "final_norm", "pool", "classify"]
)
def test_a_subclass_with_a_method_of_its_own_is_obeyed(changed):
    def negated(self, x, *args):
        found = getattr(VisionMamba, changed)(self, x, *args)
        return -found if isinstance(found, torch.Tensor) else found.replace(x=-found.x)

    model = loud(model_of(reduction=REDUCTIONS[0]))
    model.__class__ = type("Own", (VisionMamba,), {changed: negated})
    images = images_of(model)
    expected = logits(model, images)
    torch.testing.assert_close(logits(freeze(model), images), expected, rtol=1e-4, atol=1e-4)
    model.__class__ = VisionMamba
    assert not torch.allclose(logits(thaw(model), images), expected, rtol=1e-3, atol=1e-3)
