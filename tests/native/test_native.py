"""The C library computes what the frozen model computes, bit for bit."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from cpp_kernels import needs_kernels
from rmeeto import create_model, freeze, native
from rmeeto.errors import ConfigError, UnknownName, UnsupportedInput
from rmeeto.ops.impl import cpp
from rmeeto.reduction import parse_reduction
from small_models import hooked_head, images_of, model_of, other_head

pytestmark = needs_kernels
NETWORKS = [
    ("vim_tiny", {}),
    ("vim_tiny", {"registers": 3, "in_chans": 1, "mean": (0.5,), "std": (0.5,)}),
    ("vim_tiny", {"dim": 40, "state": 16, "conv_width": 2, "expand": 1, "dt_rank": 5}),
    ("vim_tiny", {"img_size": (24, 43)}),
    ("videomamba_tiny", {}),
    ("videomamba_tiny", {"frames": 4, "tubelet": 2}),
]
MERGES = ["merge:r=5", "merge:r=9+1+5,blocks=all", "merge:r=5,window=3", "merge:r=5,nth=2,distance=l1,slope=-0.5"]
MERGES += ["stm:r=3", "stm:r=5,guard=0,slope=-0.5", "stm:r=2,guard=1,blocks=all"]


@pytest.fixture
def saved(tmp_path):
    """A model written to a file and opened by the library."""

    def save_and_load(model, **options):
        return native.load(native.save(model, tmp_path / "tiny.rmeeto", **options))

    return save_and_load


@torch.inference_mode()
def assert_same(opened, model, batch):
    images = images_of(model, batch)
    given = images.to(model.cls_token.dtype)
    logits, source_map = opened.with_map(images.numpy())
    assert torch.equal(torch.from_numpy(logits), model(given).float())
    assert np.array_equal(opened(images.numpy()), logits)
    if given.dtype == torch.float32:  # block by block, other dtypes are embedded by PyTorch
        assert torch.equal(torch.from_numpy(source_map), model.forward_blocks(given).group())


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("name", "options"), NETWORKS)
def test_logits_and_maps_are_those_of_the_frozen_model(name, options, batch, saved):
    model = freeze(model_of(name, **options))
    for reduction in [None, *MERGES]:
        model.reduction = reduction and parse_reduction(reduction)
        with saved(model) as opened:
            assert opened.reduction == (str(model.reduction) if reduction else "")
            assert opened.input_size == tuple(model.config.input_size)
            assert opened.removed == model.schedule.counts[: opened.depth]
            assert_same(opened, model, batch)


@pytest.fixture
def frozen_bfloat16(monkeypatch):
    """Frozen models take the kernels for bfloat16 here too, where PyTorch has faster instructions."""
    if cpp.instruction_set() != "avx512_bf16":
        pytest.skip("no frozen blocks in bfloat16: this processor has no AVX512-BF16")
    monkeypatch.setattr(cpp.library(), "rmeeto_has_matrix_registers", lambda: False)


@pytest.mark.parametrize("batch", [1, 3])
def test_bfloat16(batch, saved, frozen_bfloat16):
    model = freeze(model_of(reduction=parse_reduction("merge:r=5")).bfloat16())
    with saved(model) as opened:
        assert opened.precision == "bfloat16"
        assert_same(opened, model, batch)


def test_bfloat16_of_a_float32_model_is_autocast(saved, frozen_bfloat16):
    model = freeze(model_of(reduction=parse_reduction("merge:r=5")))
    images = images_of(model)
    with saved(model, precision="bfloat16") as opened, torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        logits = model(images)
        assert logits.dtype == torch.bfloat16
        found, source_map = opened.with_map(images.numpy())
        assert torch.equal(torch.from_numpy(found), logits.float())
        assert torch.equal(torch.from_numpy(source_map), model.forward_blocks(images).group())


def test_another_reduction_can_be_asked_for(saved):
    model = freeze(model_of())
    images = images_of(model)
    with saved(model) as opened, torch.inference_mode():
        plain = opened(images.numpy())
        model.reduction = parse_reduction("merge:r=5")
        expected = model(images).numpy()
        assert np.array_equal(opened(images.numpy(), model.schedule.counts[:4]), expected)
        assert np.array_equal(opened(images.numpy()), plain)
        assert not np.array_equal(plain, expected)


def test_all_threads_agree(saved):
    model = freeze(model_of(reduction=parse_reduction("merge:r=5")))
    images = [images_of(model, 1).numpy() * scale for scale in (0.5, 1, 2, 4)]
    with saved(model) as opened:
        expected = [opened(image) for image in images]
        with ThreadPoolExecutor(8) as pool:
            results = [pool.submit(opened, images[i % 4]) for i in range(64)]
        assert all(np.array_equal(one.result(), expected[i % 4]) for i, one in enumerate(results))
        for threads in (1, 2, 5):
            opened.threads = threads
            assert np.array_equal(opened(images[0]), expected[0])


def test_the_file_describes_the_model(saved):
    model = model_of(reduction=parse_reduction("merge:r=5"))
    names = [f"naïve “class” {i}" for i in range(7)]
    with saved(model, name="tiny", class_names=names) as opened:
        assert (opened.name, opened.class_names, opened.num_classes) == ("tiny", tuple(names), 7)
        assert (opened.tokens, opened.tokens_left) == (model.schedule.tokens[0], model.schedule.tokens[-1])
        assert opened.protected == tuple(model.config.protected)
        assert opened.description["merge"]["distance"] == "cosine"


def test_the_models_own_class_names_are_saved(saved):
    model = model_of()
    model.class_names = list("abcdefg")
    with saved(model) as opened:
        assert opened.class_names == tuple("abcdefg")


@pytest.mark.parametrize(
    ("reduction", "why"),
    [
        ("prune:r=5", "the reduction is a TokenPrune"),
        ("stm:r=3,features=C", "the reduction reads C"),
        ("merge:r=5,features=C", "the reduction reads C"),
        ("merge:r=5,op=max", "the reduction has op=max"),
        ("merge:r=5,stretch=1", "the reduction has stretch=1"),
        ("merge:r=5,radius=1", "the reduction has radius=1"),
    ],
)
def test_other_reductions_are_refused_with_the_reason(reduction, why, tmp_path):
    model = model_of(reduction=parse_reduction(reduction))
    with pytest.raises(UnsupportedInput, match=why):
        native.save(model, tmp_path / "no.rmeeto")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (hooked_head, "head has a forward hook"),
        (lambda model: model.layers[2].register_forward_hook(lambda *_: None), "block 2 has a forward hook"),
        (lambda model: model.double(), "the weights are float64"),
        (lambda model: setattr(model.layers[1].mixer, "scale", 3.0), "not all blocks have the same eps and scale"),
        (lambda model: setattr(model, "pool", model.pool), "a method"),
    ],
)
def test_other_models_are_refused_with_the_reason(change, why, tmp_path):
    model = model_of()
    change(model)
    assert any(why in reason for reason in native.why_not_save(model))
    with pytest.raises(UnsupportedInput, match=why):
        native.save(model, tmp_path / "no.rmeeto")


def test_a_transformer_is_refused():
    model = create_model("vit_tiny_patch16_224", weights=None, img_size=32, num_classes=7)
    assert native.why_not_save(model) == [
        f"a {type(model).__name__} is no VisionMamba, and the library computes no other network"
    ]


def test_pooling_other_tokens_is_refused():
    assert any("global_pool" in why for why in native.why_not_save(model_of(global_pool="avg")))


def test_a_new_head_is_saved(saved):
    model = model_of()
    other_head(model)
    freeze(model)
    with saved(model) as opened:
        assert_same(opened, model, 1)


def test_impossible_wishes_are_refused(tmp_path):
    with pytest.raises(UnknownName, match="float16"):
        native.save(model_of(), tmp_path / "no.rmeeto", precision="float16")
    with pytest.raises(ConfigError, match="2 names"):
        native.save(model_of(), tmp_path / "no.rmeeto", class_names=["a", "b"])


def test_impossible_arguments_are_refused(saved):
    model = model_of()
    images = images_of(model).numpy()
    opened = saved(model)
    for impossible, why in (
        (lambda: opened(images[:, :, 1:]), "the model takes"),
        (lambda: opened(images[:0]), "the model takes"),
        (lambda: opened(images, [1, 0, 0, 0]), "before block 0"),
        (lambda: opened(images, [0, 33, 0, 0]), "before block 1: 32 of 64 patches can"),
        (lambda: opened(images, [0, 0, 0]), "4 blocks"),
        (lambda: opened.prepare(np.zeros((4, 4, 1), np.uint8)), "takes"),
        (lambda: opened.prepare(np.zeros((4, 4, 3), np.uint8), frame=1), "frame 1 of 1"),
    ):
        with pytest.raises(native.NativeError, match=why):
            impossible()
    opened.close()
    with pytest.raises(native.NativeError, match="has been closed"):
        opened(images)
