"""Frozen blocks: the same answers in fewer steps, and the ordinary way wherever somebody needs it."""

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from cpp_kernels import needs_kernels
from rmeeto import TokenMerge, freeze, thaw
from rmeeto.models.inference.block import FrozenBlock
from rmeeto.models.vim.block import Block
from rmeeto.ops.packed.network import PackedNetwork
from rmeeto.reduction import METHODS, parse_reduction
from small_models import images_of, model_of, needs_bfloat16

pytestmark = needs_kernels


@pytest.fixture
def frozen_calls(monkeypatch):
    """Frozen blocks that computed anything, and frozen networks that did so in their place."""
    calls = []
    for kind in (FrozenBlock, PackedNetwork):

        def count(self, *args, run=kind.__call__):
            calls.append(self)
            return run(self, *args)

        monkeypatch.setattr(kind, "__call__", count)
    return calls


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vim_tiny", {}),
        ("vim_tiny", {"registers": 3}),
        ("vim_tiny", {"dim": 40, "state": 16, "conv_width": 2}),
        ("videomamba_tiny", {}),
        ("videomamba_tiny", {"frames": 4}),
    ],
)
@pytest.mark.parametrize("batch", [1, 3])
def test_a_frozen_model_says_the_same(name, options, batch, frozen_calls):
    model = model_of(name, **options)
    images = images_of(model, batch)
    for reduction in (None, TokenMerge(r=5), TokenMerge(r=5, features="C"), TokenMerge(r=4, features="delta")):
        model.reduction = reduction
        with torch.inference_mode():
            expected = thaw(model).trace(images)
            assert not frozen_calls
            found = freeze(model).trace(images)
        torch.testing.assert_close(found.logits, expected.logits, rtol=1e-4, atol=1e-5)
        assert len(frozen_calls) == model.config.depth
        frozen_calls.clear()


@needs_bfloat16
@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16], ids=["autocast", "weights"])
def test_bfloat16_is_bfloat16(weights, frozen_calls):
    model = model_of(reduction=TokenMerge(r=5)).to(weights)
    images = images_of(model).to(weights)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=weights == torch.float32):
        expected = thaw(model).trace(images)
        found = freeze(model).trace(images)
    assert len(frozen_calls) == model.config.depth
    assert found.final.x.dtype == expected.final.x.dtype
    torch.testing.assert_close(found.logits.float(), expected.logits.float(), rtol=0.05, atol=0.05)


@pytest.mark.parametrize("needs", [{"B"}, {"C"}, {"delta"}, {"X"}])
def test_features_are_those_of_the_ordinary_way(needs):
    block, tokens = model_of().layers[1], model_of().embed(images_of(model_of()))
    needs = frozenset(needs)
    with torch.no_grad():
        left, expected = block(tokens, needs)
        block.eval()
        freeze(block)
        moved, found = block(tokens, needs)
    torch.testing.assert_close(moved.x, left.x, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(moved.residual, left.residual)
    if needs == {"X"}:  # the tokens themselves
        assert found is None
        return
    for name in {"B", "C"} | (needs & {"delta"}):
        torch.testing.assert_close(found.pair(name), expected.pair(name), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.delta_bias, expected.delta_bias)
    if "delta" in needs:
        torch.testing.assert_close(found.step_sizes(), expected.step_sizes(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"released-vit"}))
def test_every_method_finds_what_it_reads(method):
    model = model_of()
    model.reduction = parse_reduction(f"{method}:r=3{',features=X' if method == 'tome' else ''}")
    images = images_of(model)
    with torch.inference_mode():
        torch.manual_seed(2)
        expected = thaw(model)(images)
        torch.manual_seed(2)
        torch.testing.assert_close(freeze(model)(images), expected, rtol=1e-4, atol=1e-5)


def differentiated(model, images):
    freeze(model)(images).sum().backward()
    assert model.layers[0].mixer.A_log.grad is not None


def by_the_reference(model, images):
    model.impl = "reference"
    with torch.inference_mode():
        freeze(model)(images)


def in_float64(model, images):
    with torch.inference_mode():
        freeze(model.double())(images.double())


def with_hooks(model, images):
    seen = []
    for block in model.layers:
        block.mixer.x_proj.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.inference_mode():
        freeze(model)(images)
    assert len(seen) == len(model.layers)


def with_adapters(model, images):
    for block in model.layers:
        block.mixer.out_proj = nn.Sequential(block.mixer.out_proj, nn.Dropout(0.0))
    with torch.inference_mode():
        freeze(model)(images)


def with_stretched_time(model, images):
    model.reduction = TokenMerge(r=5, stretch=0.5)
    with torch.inference_mode():
        model.layers[3](model.trace(images).blocks[2])


def compiled(model, images):
    with torch.inference_mode():
        torch.compile(freeze(model), fullgraph=True, backend="eager")(images)


def exported(model, images):
    freeze(model)
    with torch.no_grad():
        program = torch.export.export(model, (images,))
    torch.testing.assert_close(program.module()(images), thaw(model)(images), rtol=1e-4, atol=1e-5)


def traced(model, images):
    with torch.inference_mode():
        torch.jit.trace(freeze(model), images, check_trace=False)


def faked(model, images):
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, torch.no_grad():
        assert freeze(model)(mode.from_tensor(images)).shape == (2, 7)


@pytest.mark.parametrize(
    "use",
    [
        differentiated,
        by_the_reference,
        in_float64,
        with_hooks,
        with_adapters,
        with_stretched_time,
        compiled,
        exported,
        traced,
        faked,
    ],
)
@pytest.mark.filterwarnings("ignore:.*jit.trace.*:FutureWarning", "ignore::torch.jit.TracerWarning")
def test_others_go_the_ordinary_way(use, frozen_calls):
    model = model_of()
    use(model, images_of(model))
    assert not frozen_calls


def test_kernels_asked_for_later_are_the_ones_that_run(frozen_calls):
    model = model_of()
    with torch.inference_mode():
        freeze(model).trace(images_of(model))
        assert frozen_calls
        frozen_calls.clear()
        model.impl = "reference"
        model.trace(images_of(model))
        assert not frozen_calls
        model.impl = "cpp"
        model.trace(images_of(model))
    assert len(frozen_calls) == model.config.depth


def test_what_changes_the_weights_is_seen():
    model = model_of()
    images = images_of(model)
    with torch.inference_mode():
        before = freeze(model)(images)
    with torch.no_grad():
        model.layers[0].norm.weight.mul_(2)
    with torch.inference_mode():
        after = model(images)
        assert not torch.allclose(after, before)
        torch.testing.assert_close(freeze(model)(images), after, rtol=1e-4, atol=1e-5)
    model.train()
    assert all(block.executor is None for block in model.layers)
    assert isinstance(model.layers[0], Block)
