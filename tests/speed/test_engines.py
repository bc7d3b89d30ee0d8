"""Every engine computes the rival, in the precision that was asked for, or says why it cannot."""

import pytest
import torch

from rmeeto.errors import RunError
from rmeeto.speed import engines
from rmeeto.speed.engines import ENGINES, OnnxRuntime, OpenVino, PyTorch, Task, absence
from rmeeto.speed.rival import build_rival, difference, onnx_file, refuse_another_function

SIZE = 32


@pytest.fixture(scope="module")
def rival():
    return build_rival("test_vit", SIZE, seed=0)


@pytest.fixture(scope="module")
def images():
    return torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def truth(rival, images):
    with torch.inference_mode():
        return rival(images)


@pytest.fixture(scope="module")
def file(rival, images):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    with onnx_file("test_vit", rival, images) as path:
        yield path
    assert not path.parent.exists()


def test_pytorch_runs_the_model_itself_or_a_copy_in_bfloat16(rival, images, truth):
    single = PyTorch.prepare(Task(rival, images, None, "float32", 1))
    half = PyTorch.prepare(Task(rival, images, None, "bfloat16", 1))
    assert difference(single(), truth) == 0
    assert half().dtype == torch.bfloat16
    assert 1e-4 < difference(half(), truth) < 0.1
    assert next(rival.parameters()).dtype == torch.float32


def test_onnx_runtime_computes_the_rival(rival, images, truth, file):
    pytest.importorskip("onnxruntime")
    found = OnnxRuntime.prepare(Task(rival, images, file, "float32", 1))()
    assert difference(found, truth) < 1e-4


def test_openvino_computes_in_the_precision_that_was_asked_for(rival, images, truth, file):
    pytest.importorskip("openvino")
    # where bfloat16 is its default, logits in float32 that are this close show that the default was overruled
    assert difference(OpenVino.prepare(Task(rival, images, file, "float32", 1))(), truth) < 1e-4
    if absence(OpenVino, "bfloat16") is None:
        assert 1e-4 < difference(OpenVino.prepare(Task(rival, images, file, "bfloat16", 1))(), truth) < 0.1


def test_onnx_runtime_has_no_bfloat16_here(monkeypatch):
    monkeypatch.setattr(engines, "find_spec", lambda package: package)
    assert "no bfloat16" in absence(OnnxRuntime, "bfloat16")
    assert absence(OnnxRuntime, "float32") is None


@pytest.mark.parametrize("engine", [engine for engine in ENGINES if engine.packages])
def test_a_missing_package_is_named_with_what_to_install(monkeypatch, engine):
    monkeypatch.setattr(engines, "find_spec", lambda package: None if package == "onnxscript" else package)
    assert absence(engine, "float32") == 'needs onnxscript: pip install "rmeeto[engines]"'


def test_another_function_is_refused_by_name(truth):
    refuse_another_function("deit", "X", "float32", difference(truth * 1.0005, truth))
    with pytest.raises(RunError, match="measure deit in X, float32"):
        refuse_another_function("deit", "X", "float32", difference(truth.roll(1, dims=1), truth))
    with pytest.raises(RunError, match="bfloat16"):
        refuse_another_function("deit", "X", "bfloat16", difference(truth[:, :-1], truth))
    with pytest.raises(RunError, match="deit"):
        refuse_another_function("deit", "X", "bfloat16", difference(truth * torch.nan, truth))


def test_the_rival_is_timms_own_and_the_same_for_a_seed(rival):
    assert type(rival).__module__ == "timm.models.vision_transformer"
    before = torch.get_rng_state()
    again = build_rival("test_vit", SIZE, seed=0)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(map(torch.equal, rival.parameters(), again.parameters()))
