import pytest
import torch
import torch.nn.functional as F

from rmeeto.config import ModelConfig
from rmeeto.models.dyvm import DynamicConfig, DynamicMamba, Rehearsal
from rmeeto.models.vim.backbone import VisionMamba
from rmeeto.recipe import Recipe
from rmeeto.training.dynamic import directions_loss, keep_loss, token_divergence
from rmeeto.training.objective import Objective, divergence
from rmeeto.training.step import make_optimizer

TINY = ModelConfig(img_size=16, patch_size=4, stride=4, in_chans=1, dim=16, depth=4, state=4, num_classes=3)


def rehearsal(**changes) -> Rehearsal:
    """Two images, two predictors, two blocks, three patches and a class token."""
    fields = {
        "logits": torch.zeros(2, 3),
        "keep": torch.tensor([[0.5, 0.25], [1.0, 0.5]]),
        "keep_aim": (0.75, 0.5),
        "directions": torch.tensor([[[1.0, 1.0], [0.0, 0.0]], [[1.0, 0.0], [1.0, 1.0]]]),
        "directions_aim": 0.5,
        "x": torch.randn(2, 4, 5),
        "token_mask": torch.tensor([[True, False, False, False], [True, False, False, True]]),
    }
    return Rehearsal(**{**fields, **changes})


def test_keep_loss_by_hand():
    # errors -0.25 -0.25 | 0.25 0
    assert keep_loss(rehearsal()).item() == pytest.approx(3 * 0.0625 / 4)
    assert keep_loss(rehearsal(keep=torch.zeros(2, 0), keep_aim=())).item() == 0


def test_directions_loss_by_hand():
    assert directions_loss(rehearsal()).item() == pytest.approx((5 / 8 - 0.5) ** 2)


def test_token_divergence_counts_the_patches_that_are_left():
    found, teacher = rehearsal(), torch.randn(2, 4, 5)
    expected = 0.0
    for image, place in ((0, 0), (1, 0), (1, 3)):
        p, q = teacher[image, place].softmax(0), found.x[image, place].softmax(0)
        expected += (p * (p / q).log()).sum().item() / 3
    assert token_divergence(teacher, found).item() == pytest.approx(expected, rel=1e-5)
    assert token_divergence(found.x, found).item() == pytest.approx(0, abs=1e-6)
    assert token_divergence(teacher, rehearsal(token_mask=torch.zeros(2, 4, dtype=torch.bool))).item() == 0


def toys(batch):
    """Images whose class is how many of their three upper patches are bright."""
    labels = torch.randint(3, (batch,))
    images = 0.3 * torch.randn(batch, 1, 16, 16)
    for image, label in zip(images, labels.tolist(), strict=True):
        image[:, :4, : 4 * (label + 1)] += 2
    return images, labels


def network(**changes):
    torch.manual_seed(0)
    return DynamicMamba(VisionMamba(TINY), DynamicConfig(**changes)).train()


def test_the_objective_is_the_sum_of_its_parts():
    model, recipe = network(), Recipe(mixup=0, cutmix=0, label_smoothing=0.1, distill=0.5)
    teacher = VisionMamba(TINY).eval()
    images, labels = toys(8)
    torch.manual_seed(1)
    loss = Objective(recipe, 3, teacher)(model, images, labels)
    torch.manual_seed(1)
    found = model(images)
    with torch.no_grad():
        final = teacher.encode(images)
        target = teacher.classify(final)
    expected = (
        F.cross_entropy(found.logits, labels, label_smoothing=0.1)
        + 10 * ((found.keep - torch.tensor([0.6875, 0.5, 0.3125])).square().mean())  # 11, 8 and 5 of 16 patches
        + 10 * (found.directions.mean() - 0.8).square()
        + 0.5 * (divergence(target, found.logits) + token_divergence(final.x, found))
    )
    torch.testing.assert_close(loss, expected)


def train(model, steps):
    recipe = Recipe(mixup=0, cutmix=0, label_smoothing=0, lr=3e-3)
    objective, optimizer = Objective(recipe, 3, None), make_optimizer(model, recipe)
    for _ in range(steps):
        optimizer.zero_grad()
        objective(model, *toys(32)).backward()
        optimizer.step()


def test_what_it_learns_in_training_it_knows_in_eval():
    model = network(keep=0.7, directions=0.8)
    train(model, 120)
    images, labels = toys(256)
    with torch.no_grad():
        assert (model.eval()(images).argmax(1) == labels).float().mean() > 0.95


def test_it_comes_to_its_measure_from_afar():
    model = network(keep=0.5, directions=0.5)
    with torch.no_grad():
        for predictor in model.predictors.values():
            predictor.score[-1].bias.fill_(3.0)
        for gates in model.gates:
            gates.linear.bias.fill_(-2.0)
    train(model, 60)
    with torch.no_grad():
        found = model(toys(64)[0])
    assert found.keep.mean(0).tolist() == pytest.approx(found.keep_aim, abs=0.15)
    assert found.directions.mean().item() == pytest.approx(0.5, abs=0.1)
