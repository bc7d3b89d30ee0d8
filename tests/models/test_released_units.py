"""One mixer and small training steps against the authors' program, gradients included."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import goldens
from rmeeto.config import ModelConfig
from rmeeto.models.vim.mixers import BidirectionalMixer

TRAINING = sorted(name for name in goldens.table("index")["cases"] if name.startswith("train_small"))


@pytest.mark.parametrize(("kind", "halve"), [("mixer_vim", True), ("mixer_videomamba", False)])
def test_mixer_output_features_and_gradients(kind, halve):
    golden = goldens.arrays("units")
    mixer = BidirectionalMixer(ModelConfig(dim=64, halve=halve)).double()
    mixer.load_state_dict(
        {name: goldens.array(f"layers.0.mixer.{name}", p.shape) for name, p in mixer.named_parameters()}
    )
    x = goldens.noise("mixer:x", (2, 17, 64), torch.float64).requires_grad_()
    y, _ = mixer(x)
    np.testing.assert_allclose(y.detach(), golden[f"{kind}/out_f64"], rtol=0, atol=1e-12)
    y.backward(goldens.noise("mixer:grad", (2, 17, 64), torch.float64))
    np.testing.assert_allclose(x.grad, golden[f"{kind}/grad_x_f64"], rtol=0, atol=1e-11)
    for name, parameter in mixer.named_parameters():
        np.testing.assert_allclose(parameter.grad, golden[f"{kind}/grad/{name}"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", TRAINING)
def test_training_step(name, dtype):
    case, golden = goldens.table("index")["cases"][name], goldens.arrays(name)
    options = case["options"]
    model = goldens.model(f"train_small_depth{options['depth']}", dtype)
    rule = "compare" in options  # the small models without that option have no last-merge rule
    merging = options["num_prune"] > 0
    model.reduction = goldens.released(options, last_merge_rule=rule) if merging else None
    model.train().zero_grad()
    logits = model(goldens.noise("input:train_small:0", (4, 3, 64, 64), dtype))
    loss = F.cross_entropy(logits, torch.tensor([1, 7, 3, 0]))
    loss.backward()

    exact = dtype == torch.float64
    np.testing.assert_allclose(
        logits.detach(), golden["logits_f64" if exact else "logits"], rtol=0, atol=1e-10 if exact else 5e-5
    )
    np.testing.assert_allclose(loss.item(), case["loss_f64"], rtol=0, atol=1e-10 if exact else 1e-5)
    parameters = dict(model.named_parameters())
    norms = [parameters[key].grad.norm().item() for key in case["keys"]]
    expected = golden["grad_norm_f64" if exact else "grad_norm"]
    np.testing.assert_allclose(norms, expected, rtol=1e-9 if exact else 1e-4)
    for key in (k for k in golden if k.startswith("grad/")):
        error = (parameters[key.removeprefix("grad/")].grad - torch.from_numpy(golden[key])).norm()
        assert error <= 1e-4 * np.linalg.norm(golden[key])
