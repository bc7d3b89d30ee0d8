"""Files that the former version wrote are read by this one and mean what they meant; see former/README.md."""

import io
import lzma
import pickle
import pickletools
import shutil
import tarfile
import warnings
import zipfile
from functools import partial
from pathlib import Path

import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import rmeeto
from former.answers import answers
from rmeeto import create_model, load_recipe, retrain
from rmeeto.evaluation.results import load_results
from rmeeto.models.dyvm import load_dynamic
from rmeeto.models.inference.freezing import freeze
from rmeeto.reduction import parse_reduction
from rmeeto.training.runlog import read_log
from toys import Recorder, make_folder

FORMER = Path(__file__).parent / "former"
EXPECTED = load_file(FORMER / "expected.safetensors")
with safe_open(FORMER / "expected.safetensors", "pt") as opened:
    TIMM = opened.metadata()["timm"]
# Of the way that the last steps take. Other kernels or threads make 1e-6, noise in the last digit of every weight 1e-4;
# what is lost makes at least 0.12.
TOLERANCE = 0.02


def unpacked(name):
    return lzma.decompress((FORMER / name).read_bytes())


def named_modules(content):
    """The modules of ours that a pickle names, in what torch.save writes or by itself."""
    if content.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
            content = archive.read(name)
    words = (str(argument).split(" ")[0] for _, argument, _ in pickletools.genops(content))
    return {word for word in words if word.startswith("rmeeto.")}


def loaded(load, content):
    """What ``load`` makes of a pickle; it must warn of each module that has moved, and of nothing else."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        value = load(io.BytesIO(content))
    assert {warning.category for warning in told} <= {DeprecationWarning}
    moved = {name for name in named_modules(content) if name.removeprefix("rmeeto.") in rmeeto._MOVED_MODULES}
    assert {str(warning.message).split(" has moved to ")[0] for warning in told} == moved
    return value


def assert_same_answer(found, expected):
    """Sums of floating-point numbers are rounded otherwise on other machines; the rest is equal. Fields may be new."""
    if isinstance(expected, torch.Tensor):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    elif isinstance(expected, dict):
        for name, value in expected.items():
            assert_same_answer(found[name], value)
    elif isinstance(expected, tuple):
        assert len(found) == len(expected)
        for one, value in zip(found, expected, strict=True):
            assert_same_answer(one, value)
    else:
        assert found == expected


@pytest.mark.parametrize("name", sorted(folder.name for folder in (FORMER / "models").iterdir()))
def test_a_saved_model_gives_its_former_logits(name):
    model = (load_dynamic if name == "dyvm" else create_model)(str(FORMER / "models" / name))
    images, expected = EXPECTED["clips" if name == "clips" else "images"], EXPECTED[f"models/{name}"]
    with torch.inference_mode():
        assert_same_answer(model(images), expected)
        assert_same_answer(freeze(model)(images), expected)
    assert getattr(model, "class_names", None) == (("blue", "green", "red") if name == "vim" else None)


@pytest.mark.parametrize("name", sorted(file.name.split(".")[0] for file in (FORMER / "pickles").iterdir()))
def test_a_pickled_model_gives_its_former_logits(name):
    if "vit" in name and timm.__version__ != TIMM:
        pytest.skip(f"timm {TIMM} made the parts of this pickle; timm {timm.__version__} need not understand them")
    model = loaded(partial(torch.load, weights_only=False), unpacked(f"pickles/{name}.pt.xz"))
    with torch.inference_mode():
        given = model(EXPECTED["images"])
    for place, found in enumerate(given if name == "maps" else [given]):
        assert_same_answer(found, EXPECTED[f"pickles/{name}/{place}"])


VALUES = torch.load(io.BytesIO(unpacked("values.pt.xz")), weights_only=False)


@pytest.mark.parametrize("name", VALUES)
def test_a_pickled_value_gives_its_former_answers(name):
    content, expected = VALUES[name]
    assert_same_answer(answers(loaded(pickle.load, content)), expected)


def test_a_tuned_schedule_is_read():
    model = create_model(str(FORMER / "finished"), reduction=parse_reduction(f"@{FORMER / 'tuned.json'}"))
    assert str(model.reduction) == "merge:r=2*1,blocks=all"
    assert model.schedule.tokens == (17, 15)


@pytest.fixture
def run(tmp_path):
    """The run that was stopped after 8 of 12 steps, beside its data; and its recipe, which says where both are now."""
    with tarfile.open(FORMER / "interrupted.tar.xz") as archive:
        # Python 3.11 has filters from 3.11.4 on, and warns without one from 3.12 on
        archive.extractall(tmp_path, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    data = make_folder(tmp_path / "toys", train=16, val=4)
    return load_recipe(tmp_path / "run" / "recipe.toml").changed(data=str(data), output=str(tmp_path / "run"))


def weights(folder):
    state = load_file(Path(folder) / "model.safetensors")
    return torch.cat([state[name].flatten() for name in sorted(state)])


def deviation(recipe):
    """How far the final weights are from the former version's, as a share of how far its last four steps took them."""
    final, average = weights(FORMER / "finished"), saved_state(recipe)["average"]["model"]
    resumed = retrain(recipe, resume=True)
    begun = torch.cat([average[name].flatten() for name in sorted(average)])
    assert resumed.steps == 12
    return float((weights(recipe.output) - final).norm() / (final - begun).norm())


def saved_state(recipe):
    return torch.load(Path(recipe.output) / "state.pt", weights_only=True)


def test_an_interrupted_run_goes_on_to_the_former_weights(run):
    assert deviation(run) < TOLERANCE
    former, now = load_results(FORMER / "finished"), load_results(run.output)
    assert (now.steps, now.data_fingerprint) == (former.steps, former.data_fingerprint)
    for ours, theirs in zip((*now.rows, *now.epochs), (*former.rows, *former.epochs), strict=True):
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-3)


@pytest.mark.parametrize("lost", ["optimizer", "average", "seed", "step"])
def test_the_tolerance_shows_what_an_interrupted_run_has_lost(run, lost):
    state, recipe = saved_state(run), run
    if lost == "optimizer":
        state["optimizer"]["state"] = {}
    elif lost == "average":
        state["average"]["model"] = state["model"]
    elif lost == "seed":
        recipe = run.changed(seed=1)
        state["recipe"] = recipe.to_toml()
    else:
        state["journal"]["step"] -= 1
    (Path(run.output) / "state.json").unlink()  # it knows the hash of the state that was
    torch.save(state, Path(run.output) / "state.pt")
    assert deviation(recipe) > 5 * TOLERANCE


def test_a_finished_run_is_finished(tmp_path):
    folder = shutil.copytree(FORMER / "finished", tmp_path / "run")
    recipe = load_recipe(folder / "recipe.toml").changed(output=str(folder), data=str(tmp_path / "moved"))
    watcher = Recorder()
    results = retrain(recipe, resume=True, progress=watcher)
    assert watcher.tasks == []
    assert results == load_results(FORMER / "finished")
    assert read_log(folder / "log.jsonl")[-1]["event"] == "end"
    with torch.inference_mode():
        best, last = (create_model(str(place))(EXPECTED["images"]) for place in (folder / "best", folder))
    assert torch.equal(best, last)  # the last epoch was the best
