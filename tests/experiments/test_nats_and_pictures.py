"""Cells of mutual information and of pictures: planned, run on toys, resumed, repeated bit for bit."""

import json
import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch

from experiment_results import result_of
from rmeeto import create_model
from rmeeto.data import open_data
from rmeeto.errors import DataError, RunError, UnknownName
from rmeeto.experiments.cell import Cell
from rmeeto.experiments.commands import command
from rmeeto.experiments.definition import load_table, parse_table
from rmeeto.experiments.nats import draws
from rmeeto.experiments.pictures import GROUPS, chosen_frames, take
from rmeeto.experiments.plan import operations, places
from rmeeto.experiments.run import open_cells, run_cells
from rmeeto.experiments.scale import DataSet, Drawing, Estimating, Scale, StandIn, list_scales, load_scale
from rmeeto.experiments.store import Store
from rmeeto.experiments.work import Workshop, fingerprint_of
from rmeeto.recipe import Recipe
from rmeeto.reduction import parse_reduction
from rmeeto.runtime.progress import SILENT
from toys import SIZES, Recorder, make_folder

UNKNOWN = {"images": None, "clips": None}
MOST_BYTES = 60_000
PLAIN = {
    "epochs": 1,
    "batch_size": 8,
    "lr": 3e-3,
    "auto_augment": None,
    "color_jitter": 0.0,
    "random_erasing": 0.0,
    "mixup": 0.0,
    "cutmix": 0.0,
}
SCALE = Scale(
    name="toy",
    title="toys",
    amount="ratio",
    data={"images": DataSet("colours", "made by a test")},
    models={"vim_tiny": StandIn("vim_tiny", "images", 5, options=SIZES, seconds={"nats": 1, "pictures": 2})},
    trainings={"minutes": PLAIN, "long": PLAIN},
    base=PLAIN,
    nats=Estimating(20, 4, 2, ("mine", "infonce", "ksg"), 5, (1.0,), 8),
    pictures=Drawing(3, 1, 2, 12),
)
TABLE = parse_table(
    "toy",
    """
title = "T"
place = "Table 0"
section = "3"
small = "the same"
seeds = 2

[[column]]
key = "mine"
title = "MINE (nats)"
measure = "nats"

[[column]]
key = "ksg"
title = "KSG (nats)"
measure = "nats"

[[column]]
key = "drawn"
title = "pictures"
measure = "pictures"
training = "long"

[[row]]
model = "vim_tiny"
reduction = "merge:{amount}"
""",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(make_folder(tmp_path_factory.mktemp("toys"), val=28))


@pytest.fixture(scope="module")
def found(folder):
    return list(places(TABLE, SCALE, {"images": fingerprint_of(folder)}))


@pytest.fixture(scope="module")
def finished(folder, found, tmp_path_factory):
    """A store with every cell, and the folder of its base models."""
    root = tmp_path_factory.mktemp("finished")
    store, workshop = Store(root / "store"), Workshop(root / "work", {"images": folder}, 0, SILENT)
    run_cells(open_cells(found, SCALE, store), store, workshop, SILENT)
    return store, workshop


def outcome(result):
    return result.key, result.nats, result.pictures, result.weights


def cells_of(found, work):
    return list({cell.key: cell for place in found for cell in place.cells if cell.work == work}.values())


# Planning


def test_keys_of_works_without_sizes_are_what_they_were_before_there_were_sizes():
    # stores all over the world hold cells of these keys
    base = Recipe(model_options={"dim": 48}, epochs=8, seed=1)
    trained = Cell("trained", "any", base, "vim_tiny", "merge:r=5", Recipe(lr=1e-3, seed=1), 1, "abc")
    free = replace(trained, work="free", training=None)
    speed = replace(free, work="speed", seed=0)
    assert [cell.key for cell in (trained, free, speed)] == ["cdfa2871a5ed7f0d", "e10da6ee7ef21da5", "d25bae164e131dcf"]


def test_the_estimators_of_a_model_share_a_cell_for_each_seed(found):
    mine, ksg, _ = found
    assert [cell.key for cell in mine.cells] == [cell.key for cell in ksg.cells]
    assert len(mine.cells) == 2
    assert mine.cells[0].base == mine.cells[1].base
    assert mine.seconds == 1


def test_sizes_decide_the_key(found):
    cell = found[0].cells[0]
    assert replace(cell, sizes=replace(cell.sizes, images=16)).key != cell.key
    drawn = found[2].cells[0]
    assert replace(drawn, sizes=replace(drawn.sizes, pixels=13)).key != drawn.key


def test_pictures_are_drawn_once_by_a_model_that_is_re_trained(found):
    (cell,) = found[2].cells
    assert (cell.work, cell.seed, cell.training.epochs) == ("pictures", 0, 1)


def test_estimates_are_repeated_with_the_same_weights():
    for place in places(load_table("fig2iii"), load_scale("full"), UNKNOWN):
        assert [cell.seed for cell in place.cells] == list(range(6))
        assert {cell.base for cell in place.cells} == {None}


def test_a_column_names_an_estimator_of_the_scale():
    text = 'title="T"\nplace="P"\nsection="3"\nsmall="s"\n[[column]]\nkey="mne"\ntitle="M"\nmeasure="nats"\n'
    table = parse_table("toy", text + '[[row]]\nmodel="vim_tiny"\nreduction="none"')
    with pytest.raises(UnknownName, match="did you mean mine"):
        list(places(table, SCALE, {"images": None}))


def test_a_scale_without_sizes_says_so():
    for place in places(TABLE, replace(SCALE, nats=None, pictures=None), {"images": None}):
        assert "has no sizes for" in place.missing


@pytest.mark.parametrize("scale", list_scales())
@pytest.mark.parametrize("name", ["fig4", "fig5"])
def test_the_file_of_a_pictures_cell_stays_small(scale, name):
    chosen = load_scale(scale)
    for place in places(load_table(name), chosen, UNKNOWN):
        if place.cells and place.column.measure == "pictures":
            clips, sizes = name == "fig5", chosen.pictures
            frames = sizes.clips * sizes.frames if clips else sizes.images
            patches = 14 * 14  # of a frame of 224 pixels; at small scale there are fewer
            numbers = frames * 2 * patches * GROUPS.itemsize  # before re-training and after
            assert 4 / 3 * (frames * sizes.pixels**2 * 3 + numbers) + 4000 < MOST_BYTES
            if scale == "small":
                assert frames <= 6


def test_a_dry_run_has_a_command_for_the_pictures_of_published_weights():
    scale = load_scale("full")
    (place,) = (p for p in places(load_table("fig4"), scale, UNKNOWN) if p.column.measure == "pictures")
    (cell,) = place.cells
    line = command(cell, "IMAGES")
    assert line.startswith("rmeeto retrain vim_small --data IMAGES --reduce merge:r=10 --recipe minutes --epochs 15")
    assert line.endswith(f"--output cells/{cell.key} && rmeeto show cells/{cell.key} --reduce merge:r=10 IMAGES")
    assert command(replace(cell, training=None), "IMAGES") == "rmeeto show vim_small --reduce merge:r=10 IMAGES"
    estimated = next(places(load_table("fig2iii"), scale, UNKNOWN))
    assert command(estimated.cells[0], "IMAGES") is None
    assert operations(estimated, scale)[0] > 1


# Running


def test_everything_is_run_once_and_leaves_nothing_but_base_models(finished, found):
    store, workshop = finished
    assert len(Store(store.folder)) == 3
    assert open_cells(found, SCALE, store) == []
    assert [path.name.split("-")[0] for path in workshop.folder.iterdir()] == ["base"]


def test_a_file_holds_one_estimate_for_each_draw_and_gaussian(finished, found):
    for cell in cells_of(found, "nats"):
        own = Store(finished[0].folder).find(cell).nats
        assert own == finished[0].find(cell).nats
        assert {name: len(values) for name, values in own.estimates.items()} == {"mine": 2, "infonce": 2, "ksg": 2}
        assert {name: len(values) for name, values in own.gaussians.items()} == {"mine": 1, "infonce": 1, "ksg": 1}
        assert (own.columns, own.samples) == (16, 80)
        assert len(set(own.estimates["ksg"])) == 2


def test_pictures_hold_the_images_and_what_was_merged_before_and_after(finished, found):
    (cell,) = cells_of(found, "pictures")
    kept = Store(finished[0].folder).find(cell).pictures
    assert kept == finished[0].find(cell).pictures
    assert [picture.name for picture in kept.pictures] == ["blue", "green", "red"]
    for picture in kept.pictures:
        (frame,) = kept.frames(picture)
        assert frame.size == (12, 12)
        assert ("red", "green", "blue")[int(np.asarray(frame).mean((0, 1)).argmax())] == picture.name
        assert list(picture.groups) == ["base model", "re-trained"]
        for model in picture.groups:
            groups = kept.groups(picture, model)
            assert groups.shape == (1, 4, 4)
            assert 1 < len(np.unique(groups)) < 16
    assert (finished[0].folder / f"{cell.key}.json").stat().st_size < MOST_BYTES


def test_cells_run_again_from_nothing_are_equal_bit_for_bit(folder, found, finished, tmp_path):
    store, workshop = Store(tmp_path / "store"), Workshop(tmp_path / "work", {"images": folder}, 0, SILENT)
    torch.manual_seed(17)  # what was drawn before must not matter
    run_cells(open_cells(found, SCALE, store), store, workshop, SILENT)
    for place in found:
        for cell in place.cells:
            assert outcome(store.find(cell)) == outcome(finished[0].find(cell))


def test_an_interrupted_run_keeps_what_is_finished_and_goes_on(folder, found, finished, tmp_path):
    def interrupt(step):
        if step == 5:  # in the re-training before the pictures: the base model takes three steps
            os.kill(os.getpid(), signal.SIGINT)

    store, recorder = Store(tmp_path / "store"), Recorder(interrupt)
    todo = open_cells(found, SCALE, store)
    with pytest.raises(RunError, match="run the same command again"):
        run_cells(todo, store, Workshop(tmp_path / "work", {"images": folder}, 0, recorder), SILENT)
    kept = Store(store.folder)
    assert len(kept) == 2
    run_cells(open_cells(found, SCALE, kept), kept, Workshop(tmp_path / "work", {"images": folder}, 0, SILENT), SILENT)
    for place in found:
        for cell in place.cells:
            assert outcome(kept.find(cell)) == outcome(finished[0].find(cell))


def test_no_image_is_used_twice():
    taken = [place for seed in range(6) for draw in draws(240, SCALE.nats, seed, "toys") for place in draw]
    assert sorted(taken) == list(range(240))
    assert taken != sorted(taken)


def test_too_few_images_are_refused(folder, found, finished, tmp_path):
    cell = replace(found[0].cells[0], sizes=replace(SCALE.nats, draws=5))
    with pytest.raises(DataError, match="1 repetition of 100 images, none of them used twice, take 100"):
        Workshop(finished[1].folder, {"images": folder}, 0, SILENT).run(cell, "images")


def test_an_image_that_cannot_be_read_stops_the_cell(found, finished, tmp_path):
    copy = make_folder(tmp_path / "toys", val=28)
    for path in (copy / "val").rglob("*.png"):
        path.write_bytes(b"no picture")
    with pytest.raises(DataError, match="nothing can stand in"):
        Workshop(finished[1].folder, {"images": str(copy)}, 0, SILENT).run(found[0].cells[0], "images")


def test_frames_are_spread_over_a_clip():
    assert chosen_frames(8, 3) == [0, 4, 7]
    assert chosen_frames(8, 8) == list(range(8))
    assert chosen_frames(2, 3) == [0, 1]
    assert chosen_frames(8, 1) == [0]


def test_a_group_is_followed_over_the_frames_of_a_clip(tmp_path):
    clips = pytest.importorskip("toy_clips").make_clip_folder(tmp_path / "clips")
    options = {"img_size": [16, 16], "patch_size": 8, "stride": 8, "dim": 16, "depth": 4, "frames": 4, "num_classes": 2}
    torch.manual_seed(0)
    model = create_model("videomamba_tiny", **options)
    model.reduction = parse_reduction("merge:ratio=0.2")
    kept = take({"as it is": model}, open_data(str(clips), "val"), SCALE.pictures)
    (picture,) = kept.pictures
    assert [frame.size for frame in kept.frames(picture)] == [(12, 12)] * 2
    groups = kept.groups(picture, "as it is")
    assert groups.shape == (2, 2, 2)
    assert groups.min() >= 0
    assert groups.max() < model.schedule.tokens[kept.block]


# Files


def damage(change):
    def damaged(text):
        content = json.loads(text)
        change(content)
        return json.dumps(content)

    return damaged


DAMAGES = {
    "nats": [
        lambda content: content.pop("nats"),
        lambda content: content["nats"]["estimates"].update(mine=[]),
        lambda content: content["nats"]["estimates"].update(mine=["much"]),
        lambda content: content["nats"]["estimates"].update(mine=[float("nan")]),
        lambda content: content["nats"]["gaussians"].update(mine=[1.0, 2.0]),
        lambda content: content["nats"]["gaussians"].pop("mine"),
        lambda content: content.update(nats=3),
    ],
    "pictures": [
        lambda content: content.pop("pictures"),
        lambda content: content["pictures"].update(pictures=[]),
        lambda content: content["pictures"].update(grid=[4, 5]),
        lambda content: content["pictures"]["pictures"][0].update(frames=["AAAA"]),
        lambda content: content["pictures"]["pictures"][0]["groups"].update(other="?"),
    ],
}


@pytest.mark.parametrize(("work", "change"), [(work, change) for work, found in DAMAGES.items() for change in found])
def test_a_damaged_file_counts_as_not_run(finished, found, tmp_path, work, change):
    cell = cells_of(found, work)[0]
    file = tmp_path / f"{cell.key}.json"
    file.write_text(damage(change)((finished[0].folder / file.name).read_text()))
    store = Store(tmp_path)
    assert list(store.problems) == [file.name]
    assert store.find(cell) is None


def test_files_of_the_other_works_are_written_as_before_and_older_ones_are_read(tmp_path):
    cell = Cell("free", "any", None, "vim_tiny", "none", None, 0, "abc")
    store = Store(tmp_path)
    store.add(cell, result_of(cell))
    assert not {"nats", "pictures"} & json.loads((tmp_path / f"{cell.key}.json").read_text()).keys()
    assert Store(tmp_path).find(cell) == result_of(cell)
    file = tmp_path / f"{cell.key}.json"
    file.write_text(damage(lambda content: content.update(nats=None))(file.read_text()))
    assert list(Store(tmp_path).problems) == [file.name]
