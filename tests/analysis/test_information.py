"""Information before and after a reduction: who is compared with whom, and when a difference is reported."""

import json
from dataclasses import dataclass

import pytest
import timm
import torch

import rmeeto
from rmeeto.analysis import information
from rmeeto.analysis.estimators import KSG, Estimate, InfoNCE, Samples, Training
from rmeeto.analysis.information import Difference, Setting, information_in_blocks
from rmeeto.errors import ConfigError, UnknownName, UnsupportedInput
from small_models import model_of


@dataclass(frozen=True)
class Spread:
    """Not an estimator, but a figure that differs between settings and seeds: the variance of Y."""

    name: str = "spread"
    factor: float = 1.0

    def __call__(self, samples, seed):
        return self.factor * float(samples.y.var())

    def most(self, samples):
        return None


def models():
    torch.manual_seed(0)
    vit = timm.models.vision_transformer.VisionTransformer(
        img_size=32, patch_size=4, embed_dim=16, depth=3, num_heads=2, num_classes=5
    )
    return {"vim": model_of(depth=3, reduction="prune:r=3"), "vit": rmeeto.reduce(vit.eval(), None)}


@pytest.fixture(scope="module")
def images():
    return torch.randn(64, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def found(images):
    reductions = ["merge:ratio=0.2,blocks=all", "prune:ratio=0.2,blocks=all"]
    learn = InfoNCE(training=Training(steps=5, width=8, hidden=8, check_every=5))
    return information_in_blocks(
        models(), images, reductions, estimators=[learn, "ksg"], seeds=3, blocks={"vit": 1}, tokens_per_image=5
    )


def test_every_model_is_measured_whole_and_under_every_reduction(found):
    lines = ["none", "merge:ratio=0.2,blocks=all", "prune:ratio=0.2,blocks=all"]
    settings = [(item.setting.model, item.setting.reduction, item.setting.block) for item in found.measured]
    assert settings == [("vim", line, 1) for line in lines] + [("vit", line, 1) for line in lines]
    assert [item.columns for item in found.measured] == [24] * 3 + [16] * 3
    assert all([*item.estimates] == ["infonce", "ksg"] for item in found.measured)
    assert all(one.samples == 21 * 5 for item in found.measured for one in item.estimates.values())


def test_reductions_are_compared_with_their_model_and_models_with_each_other(found):
    pairs = [(str(item.of), str(item.against)) for item in found.differences]
    assert pairs == [
        *((f"{model}, {line}", f"{model}, none") for model in ("vim", "vit") for line in _lines()),
        ("vim, none", "vit, none"),
    ]
    by_setting = {item.setting: item.estimates for item in found.measured}
    for item in found.differences:
        for name, estimate in item.estimates.items():
            before, after = by_setting[item.against][name].values, by_setting[item.of][name].values
            assert estimate.values == tuple(a - b for a, b in zip(after, before, strict=True))


def _lines():
    return ["merge:ratio=0.2,blocks=all", "prune:ratio=0.2,blocks=all"]


def test_the_result_is_plain_json_and_readable_text(found):
    plain = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert plain["differences"][0]["conclusion"] in ("more", "less", "undecided")
    assert plain["measured"][0]["estimates"]["infonce"]["most"] > 0
    assert (plain["seeds"], plain["images"], plain["reading"]) == (3, 21, "tokens")
    text = str(found)
    assert "vim, merge:ratio=0.2,blocks=all against vim, none: " in text
    assert "vit, none (block 1, 16 columns)" in text


@pytest.mark.parametrize(
    ("changes", "conclusion"),
    [
        ([(0.2, 0.3, 0.25), (0.1, 0.12, 0.11)], "more"),
        ([(-0.2, -0.3, -0.25), (-0.1, -0.12, -0.11)], "less"),
        ([(0.2, 0.3, 0.25), (-0.1, -0.12, -0.11)], "undecided"),
        ([(0.2, 0.3, 0.25), (0.1, -0.12, 0.11)], "undecided"),
        ([(0.2, -0.3, 0.25), (0.1, -0.12, 0.11)], "undecided"),
        ([(0.2, 0.3, 0.25), (0.1, 0.1, 0.1)], "undecided"),
    ],
)
def test_a_difference_is_reported_only_if_all_estimators_agree(changes, conclusion):
    setting = Setting("vim", "none", 0)
    estimates = {str(number): Estimate.of(str(number), values, 100) for number, values in enumerate(changes)}
    assert Difference(setting, setting, estimates).conclusion == conclusion


def test_a_clear_difference_is_found_and_estimators_of_opposite_opinion_leave_it_open(images, monkeypatch):
    def halved_by_a_reduction(model, images, block, **options):
        x, y = torch.randn(2, 384, 3, generator=torch.Generator().manual_seed(0))
        return Samples(x, y * (1.0 if model.reduction is None else 0.5), torch.arange(384) // 6)

    monkeypatch.setattr(information, "block_signals", halved_by_a_reduction)

    def conclusion(*estimators):
        result = information_in_blocks(
            {"vim": models()["vim"]}, images, ["merge:r=2,blocks=all"], estimators=estimators, seeds=4
        )
        return result.differences[0].conclusion

    assert conclusion(Spread()) == "less"
    assert conclusion(Spread(), Spread("twice", 2.0)) == "less"
    assert conclusion(Spread("against", -1.0)) == "more"
    assert conclusion(Spread(), Spread("against", -1.0)) == "undecided"


def test_each_seed_has_images_of_its_own(images):
    seen = []

    class Looks(Spread):
        def __call__(self, samples, seed):
            seen.append({*samples.image.tolist()})
            return float(seed)

    information_in_blocks({"vim": models()["vim"]}, images, [], estimators=[Looks()], seeds=5, tokens_per_image=5)
    assert len(seen) == 5
    assert all(len(share) == 12 for share in seen)
    assert len(set().union(*seen)) == 60


def test_the_models_keep_their_own_reductions(images):
    given = models()
    information_in_blocks(given, images, ["merge:r=2"], estimators=[KSG()], seeds=2)
    with pytest.raises(ConfigError):
        information_in_blocks(given, images, ["merge:r=2"], estimators=[KSG()], seeds=2, tokens_per_image=99)
    assert str(given["vim"].reduction) == "prune:r=3"
    assert given["vit"].reduction is None


def test_what_cannot_be_asked_is_refused_with_the_reason(images):
    def ask(given=None, reductions=(), **options):
        information_in_blocks(models() if given is None else given, images, reductions, **options)

    with pytest.raises(ConfigError, match="given: no model"):
        ask(given={})
    with pytest.raises(ConfigError, match="at least one is needed"):
        ask(estimators=[])
    with pytest.raises(ConfigError, match="told apart by their estimators' names"):
        ask(estimators=["ksg", KSG(neighbours=2)])
    with pytest.raises(ConfigError, match="seeds is at least 2"):
        ask(seeds=1)
    with pytest.raises(ConfigError, match="blocks names models that are not given: deit"):
        ask(blocks={"deit": 1})
    with pytest.raises(ConfigError, match="block is at least 0, at most 2"):
        ask(blocks={"vim": 3})
    with pytest.raises(ConfigError, match=r"call rmeeto\.reduce\(model, None\)"):
        ask(given={"vim": models()["vim"], "linear": torch.nn.Linear(3, 3)})
    with pytest.raises(UnknownName, match="ksg"):
        ask(estimators=["kgs"])
    with pytest.raises(UnknownName, match="merge"):
        ask(reductions=["marge:r=2"])
    with pytest.raises(UnsupportedInput, match="64 images are 9 for each of 7 seeds"):
        ask(seeds=7)
