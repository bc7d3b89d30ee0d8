import subprocess
import sys

import pytest

from rmeeto.cost import stack_of
from rmeeto.data import Augmentation, BatchPlan, Views
from rmeeto.errors import ConfigError, DataError, RmeetoError, UnknownName
from rmeeto.models.vim.zoo import find
from rmeeto.recipe import Recipe, list_recipes, load_recipe, parse_recipe
from rmeeto.reduction import parse_reduction


@pytest.mark.parametrize("name", list_recipes())
def test_every_shipped_recipe_reads_prints_and_fits_its_model(name):
    recipe = load_recipe(name)
    assert parse_recipe(recipe.to_toml()) == recipe
    _, entry = find(recipe.model)
    reduction = parse_reduction(recipe.reduction)
    if reduction is not None:
        reduction.schedule(stack_of(entry.config))


def test_the_papers_recipes():
    for name, r, epochs, ema in (("vim_tiny", 5, 30, None), ("vim_small", 11, 15, None), ("vim_base", 11, 15, 0.996)):
        recipe = load_recipe(name)
        assert (recipe.reduction, recipe.epochs, recipe.ema_decay) == (f"merge:r={r}", epochs, ema)
        assert recipe.images_per_step == 1024
        assert (recipe.lr, recipe.min_lr, recipe.weight_decay, recipe.distill) == (2e-5, 1e-6, 0.05, 0)


def test_a_recipe_is_a_value():
    recipe = Recipe(model_options={"dim": 16, "img_size": [32, 16]})
    same = Recipe(model_options=(("img_size", (32, 16)), ("dim", 16)))
    assert recipe == same
    assert hash(recipe) == hash(same)
    assert parse_recipe(recipe.to_toml()) == recipe


def test_text_survives_the_round_trip():
    recipe = Recipe(data='C:\\images\\"new"', output="läufe/1", weights="a b.pth", auto_augment=None, clip_grad=None)
    assert parse_recipe(recipe.to_toml()) == recipe


def test_none_switches_off_what_can_be_off_and_only_that():
    assert parse_recipe('clip_grad = "none"\nauto_augment = "none"').clip_grad is None
    with pytest.raises(ConfigError, match="lr is of type float"):
        parse_recipe('lr = "none"')


def test_an_unknown_field_suggests_the_nearest():
    with pytest.raises(UnknownName, match="did you mean min_lr") as error:
        parse_recipe("minlr = 1e-6")
    assert "recipe field 'minlr'" in str(error.value)


def test_an_unknown_recipe_suggests_the_nearest():
    with pytest.raises(UnknownName, match="vim_tiny"):
        load_recipe("vim_tini")


@pytest.mark.parametrize(
    "line",
    [
        'epochs = "3"',
        "epochs = 3.0",
        "epochs = true",
        "lr = true",
        "model = 3",
        'precision = "float16"',
        'impl = "cuda"',
        'device = "gpu"',
        "epochs = 0",
        "lr = 0.0",
        "lr = -1e-3",
        "lr = nan",
        "lr = 1e-7",
        "subset = 0.0",
        "subset = 1.5",
        "batch_size = 7",
        "ema_decay = 1.0",
        "clip_grad = 0.0",
        "label_smoothing = 1.0",
        "workers = -1",
        "num_classes = 0",
    ],
)
def test_impossible_values_are_refused(line):
    with pytest.raises(RmeetoError) as error:
        parse_recipe(line)
    assert line.split(" =")[0] in str(error.value)


def test_whole_numbers_serve_as_floats():
    assert parse_recipe("mixup = 0\ncutmix = 0\nclip_grad = 1") == Recipe(mixup=0.0, cutmix=0.0, clip_grad=1.0)


def test_odd_batches_are_fine_when_nothing_is_mixed():
    assert Recipe(batch_size=7, mixup=0, cutmix=0).images_per_step == 7


def test_differences_are_named():
    assert Recipe().differences(Recipe(epochs=5, seed=1)) == ("epochs: 3 → 5", "seed: 0 → 1")


def test_a_file_that_is_not_toml(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text("epochs: 3")
    with pytest.raises(ConfigError, match="not TOML"):
        load_recipe(path)
    path.write_text("epochs = 5")
    assert load_recipe(path, seed=3) == Recipe(epochs=5, seed=3)


def test_reading_recipes_does_not_wait_for_torch():
    code = "import sys, rmeeto.recipe as r; r.load_recipe('vim_tiny'); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_recipe_gives_the_values_that_data_is_read_by():
    assert Recipe().augmentation == Augmentation()
    assert Recipe().views == Views()
    plan = Recipe(epochs=3, batch_size=10, seed=7).batch_plan(100)
    assert plan == BatchPlan(images=100, epochs=3, batch_size=10, seed=7, pairs=True)
    assert plan.total_steps == 30
    assert not Recipe(mixup=0, cutmix=0).batch_plan(200).pairs


@pytest.mark.parametrize(
    ("processes", "micro_batches", "micro_batch"), [(1, 8, 128), (4, 2, 128), (8, 1, 128), (16, 1, 64)]
)
def test_processes_share_the_papers_1024_images(processes, micro_batches, micro_batch):
    plan = load_recipe("vim_small").batch_plan(1_281_167, processes)
    assert (plan.micro_batches, plan.micro_batch) == (micro_batches, micro_batch)
    assert plan.steps_per_epoch == 1251
    assert f"× {micro_batch}; 1281167 images, 1251 steps per epoch, 18765 in all" in str(plan)


def test_processes_that_cannot_share_evenly():
    with pytest.raises(ConfigError, match="3 processes"):
        Recipe().batch_plan(1000, processes=3)
    with pytest.raises(ConfigError, match="pairs"):
        Recipe(batch_size=2).batch_plan(10, processes=2)


def test_fewer_images_than_one_step_takes():
    with pytest.raises(DataError, match=r"128 × accumulate 2 = 256 images per step"):
        Recipe(accumulate=2).batch_plan(200)
