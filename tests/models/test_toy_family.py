"""A family from outside the package can do what those inside can; what it lacks is named when it is added or built."""

import inspect
import json
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

import rmeeto
import toy_family
import toys
from rmeeto import TokenMerge
from rmeeto.cli import app
from rmeeto.cost import count, stack_of
from rmeeto.errors import CheckpointError, ConfigError, UnknownName
from rmeeto.evaluation import evaluate
from rmeeto.evaluation.prediction import predict
from rmeeto.models.dyvm import DynamicConfig, DynamicMamba, load_dynamic
from rmeeto.models.family import FAMILIES, Family, add_family
from rmeeto.models.reducible import ReducibleModel
from rmeeto.speed import bench
from rmeeto.viz import merged_groups
from toy_family import ToyConfig, ToyCounter, ToyModel

MERGE = TokenMerge(r=2, blocks="all")


def toy(reduction=MERGE, **options):
    torch.manual_seed(0)
    return rmeeto.create_model("toy_tiny", reduction=reduction, **options)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return toys.make_folder(tmp_path_factory.mktemp("toy") / "data", train=8, val=4)


def test_a_family_takes_at_most_80_lines():
    assert len(inspect.getsource(toy_family).splitlines()) <= 80


def test_it_is_reduced_at_any_time():
    model, images = toy(), torch.randn(2, 3, 16, 16)
    assert model.schedule.tokens == (15, 13, 11, 9)
    assert [tokens.length for tokens in model.trace(images).blocks] == [15, 13, 11, 9]
    model.reduction = None
    whole = model(images)
    model.reduction = "merge:r=2,blocks=all"
    assert not torch.equal(model(images), whole)
    assert "tokens=17 … 9" in repr(model)


def test_its_operations_are_counted_and_budgets_kept():
    model = toy()
    assert rmeeto.flops(model).total == count(model.config, MERGE).total < count(model.config).total
    goal = 0.8 * count(model.config).total / 1e9
    model.reduction = f"merge:gflops={goal:.9f},blocks=all"
    assert rmeeto.flops(model).total / 1e9 <= goal
    assert stack_of(model.config).tokens == 17


def test_saved_and_built_again(tmp_path):
    model, images = toy(depth=3), torch.randn(2, 3, 16, 16)
    model.class_names = ["blue", "green", "red"]
    rmeeto.save_model(model, tmp_path)
    again = rmeeto.create_model(str(tmp_path))
    assert isinstance(again, ToyModel)
    assert (again.config, again.reduction, again.class_names) == (model.config, MERGE, model.class_names)
    assert torch.equal(again(images), model(images))


def test_evaluated_with_fixed_and_with_varying_reductions(data):
    model = toy()
    evaluation = evaluate(model, str(data), batch_size=4, workers=0)
    assert (evaluation.images, evaluation.spent) == (12, None)
    model.reduction = "similar-merge:r=2,threshold=0.5,blocks=all"
    spent = evaluate(model, str(data), batch_size=4, workers=0).spent
    assert 9 <= spent.tokens <= 17


def test_benched_beside_itself_unreduced_memory_included():
    report = bench(toy(None), [MERGE], batches=[2], rounds=5, warmup=1, device="cpu")
    whole, reduced = report.measurements
    assert (whole.tokens, reduced.tokens, report.impl) == (17, 9, "torch")
    assert reduced.flops_speedup > 1
    assert 0 < reduced.reduction_share < 1
    assert reduced.peak_memory_mib is None or reduced.peak_memory_mib > 0


def test_retrained_drawn_and_predicted(data, tmp_path):
    recipe = toys.toy_recipe(
        data, tmp_path / "run", model="toy_tiny", model_options={}, weights="none", reduction=str(MERGE), epochs=1
    )
    unreduced, *_, trained = rmeeto.retrain(recipe).rows
    assert (unreduced.tokens, trained.tokens, trained.images) == (17, 9, 12)
    model = rmeeto.create_model(str(tmp_path / "run"))
    picture = next((data / "val").rglob("*.png"))
    [row] = merged_groups(model, [Image.open(picture)], ["it"], [0])
    assert [panel.title for panel in row.panels] == ["image", "block 0: 15 tokens"]
    [prediction] = predict(model, [picture])
    assert prediction.guesses[0].name in ("blue", "green", "red")


def test_the_command_line_knows_it_too(tmp_path):
    rmeeto.save_model(toy(), tmp_path / "saved")
    for model in ("toy_tiny", tmp_path / "saved"):
        result = CliRunner().invoke(app, ["flops", str(model), "--reduce", "none", "--reduce", str(MERGE)])
        assert result.exit_code == 0, result.output
        assert "16×16 image, 4 blocks, 17 tokens" in result.output


def test_a_saved_model_of_a_family_that_is_not_there_says_what_to_import(tmp_path, monkeypatch):
    rmeeto.save_model(toy(), tmp_path)
    monkeypatch.delitem(FAMILIES, "toy")
    with pytest.raises(CheckpointError, match=r"family = 'toy'.*only vim, vit, dyvm are known"):
        rmeeto.create_model(str(tmp_path))
    with pytest.raises(UnknownName):
        rmeeto.create_model("toy_tiny")


@pytest.mark.parametrize("family", ["vim", "vit", "dyvm"])
def test_models_saved_by_earlier_versions_name_no_family_and_load(family, tmp_path):
    vim = {"img_size": 32, "patch_size": 8, "stride": 8, "dim": 16, "depth": 4, "num_classes": 5}
    vit = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 4, "num_classes": 5}
    sizes = {"vit": vit}.get(family, vim)
    model = rmeeto.create_model("vit_tiny_patch16_224" if family == "vit" else "vim_tiny", **sizes)
    model = DynamicMamba(model, DynamicConfig(blocks=(1,))).eval() if family == "dyvm" else model
    rmeeto.save_model(model, tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    assert content.pop("family") == family
    (tmp_path / "config.json").write_text(json.dumps(content))
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    again = load_dynamic(tmp_path) if family == "dyvm" else rmeeto.create_model(str(tmp_path))
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(again(images), model(images))


def test_weights_of_another_model_are_refused_as_a_difference_of_names(tmp_path):
    rmeeto.save_model(toy(depth=3), tmp_path)
    with pytest.raises(CheckpointError, match=r"- blocks\.3\.weight"):
        toy(weights=tmp_path)
    with pytest.raises(UnknownName, match="depth"):
        toy(depht=3)
    with pytest.raises(ConfigError, match="no scan"):
        toy(impl="cpp")


@dataclass(frozen=True)
class Unfinished:
    family: ClassVar[str] = "unfinished"
    depth: int = 2
    num_classes: int = 3
    tokens: int = 5


class CountsNothing:
    stack = widths = None

    def __init__(self, config):
        pass


class OnlyWalks(ToyModel):
    final_norm = ReducibleModel.final_norm
    classify = ReducibleModel.classify


def test_a_part_that_sizes_or_counter_lack_is_named_when_the_family_is_added():
    with pytest.raises(ConfigError, match=r"Unfinished\.input_size, .*, CountsNothing\.block, CountsNothing\.outside"):
        add_family(Family(config=Unfinished, counter=CountsNothing, build=ToyModel))
    with pytest.raises(ConfigError, match="no frozen dataclass"):
        add_family(Family(config=dict, counter=ToyCounter, build=ToyModel))
    assert "unfinished" not in FAMILIES


def test_a_part_that_a_model_lacks_is_named_when_it_is_built(monkeypatch):
    for build, lack in ((OnlyWalks, "it lacks final_norm, classify"), (torch.nn.Flatten, "it is no ReducibleModel")):
        monkeypatch.setitem(FAMILIES, "toy", replace(FAMILIES["toy"], build=lambda *_, build=build: make(build)))
        with pytest.raises(ConfigError, match=lack):
            toy(None)


def make(kind):
    return kind(ToyConfig()) if issubclass(kind, ToyModel) else kind()


def test_families_of_the_package_cannot_be_replaced():
    class Vim(ToyConfig):
        family = "vim"

    with pytest.raises(ConfigError, match="choose another"):
        add_family(Family(config=Vim, counter=ToyCounter, build=ToyModel))


def test_sizes_of_no_family_cannot_be_counted():
    with pytest.raises(ConfigError, match="add_family"):
        count(Unfinished())


def test_the_family_of_a_network_is_no_option():
    with pytest.raises(UnknownName, match="family"):
        rmeeto.create_model("vim_tiny", family="vit")
