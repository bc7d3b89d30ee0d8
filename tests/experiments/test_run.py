"""Cells run on toy pictures: stored, resumed, repeated bit for bit."""

import pytest

from rmeeto.errors import DataError, RunError
from rmeeto.experiments.definition import parse_table
from rmeeto.experiments.plan import places
from rmeeto.experiments.run import open_bases, open_cells, run_cells, seconds_left
from rmeeto.experiments.scale import DataSet, Scale, StandIn
from rmeeto.experiments.store import Store
from rmeeto.experiments.work import Workshop, fingerprint_of
from rmeeto.runtime.progress import SILENT
from toys import SIZES, Recorder, make_folder

PLAIN = {
    "epochs": 2,
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
    models={"vim_tiny": StandIn("vim_tiny", "images", 5, options=SIZES, seconds={"base": 4, "free": 1, "trained": 2})},
    trainings={"minutes": {**PLAIN, "epochs": 1}},
    base=PLAIN,
)
TABLE = parse_table(
    "toy",
    """
title = "T"
place = "Table 0"
section = "3"
small = "the same"
seeds = 1

[[column]]
key = "free"
title = "training-free"

[[column]]
key = "trained"
title = "re-trained"
training = "minutes"

[[row]]
model = "vim_tiny"
reduction = "merge:{amount},shuffle={shuffle}"
labels = { shuffle = [0.0, 0.5] }
""",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(make_folder(tmp_path_factory.mktemp("toys")))


@pytest.fixture(scope="module")
def found(folder):
    return list(places(TABLE, SCALE, {"images": fingerprint_of(folder)}))


@pytest.fixture(scope="module")
def finished(folder, found, tmp_path_factory):
    """A store with every cell, and the folder of its base model."""
    root = tmp_path_factory.mktemp("finished")
    store, workshop = Store(root / "store"), Workshop(root / "work", {"images": folder}, 0, SILENT)
    run_cells(open_cells(found, SCALE, store), store, workshop, SILENT)
    return store, workshop


def outcome(result):
    return result.key, result.correct, result.loss, result.weights


def test_everything_is_run_once(finished, found):
    store, workshop = finished
    assert len(Store(store.folder)) == 4
    assert open_cells(found, SCALE, store) == []
    assert sorted(path.name.split("-")[0] for path in workshop.folder.iterdir()) == ["base"]


def test_a_trained_cell_has_other_weights_than_its_base_and_a_free_one_has_the_same(finished, found):
    store, _ = finished
    weights = {(place.column.key, store.find(place.cells[0]).weights) for place in found}
    assert len({weight for column, weight in weights if column == "free"}) == 1
    assert len({weight for column, weight in weights}) == 3


def test_the_time_that_is_left_counts_base_models_once(folder, found, tmp_path):
    store, workshop = Store(tmp_path / "store"), Workshop(tmp_path / "work", {"images": folder}, 0, SILENT)
    todo = open_cells(found, SCALE, store)
    assert seconds_left(todo, open_bases(todo, workshop), SCALE) == 2 * 1 + 2 * 2 + 4


def test_cells_run_again_from_nothing_in_two_processes_are_equal_bit_for_bit(folder, found, finished, tmp_path):
    store, workshop = Store(tmp_path / "store"), Workshop(tmp_path / "work", {"images": folder}, 0, SILENT)
    run_cells(open_cells(found, SCALE, store), store, workshop, SILENT, jobs=2)
    for place in found:
        assert outcome(store.find(place.cells[0])) == outcome(finished[0].find(place.cells[0]))


def test_a_data_set_with_too_few_images_for_one_step_is_refused_before_anything_runs(folder, found, tmp_path):
    few = make_folder(tmp_path / "few", train=2)
    store, workshop = Store(tmp_path / "store"), Workshop(tmp_path / "work", {"images": str(few)}, 0, SILENT)
    with pytest.raises(DataError, match="one step of it takes 8"):
        run_cells(open_cells(found, SCALE, store), store, workshop, SILENT)
    assert not workshop.folder.exists()
    assert len(Store(store.folder)) == 0


def test_an_interrupted_run_keeps_what_is_finished_and_goes_on(folder, found, finished, tmp_path):
    import os
    import signal

    def interrupt(step):
        if step == 8:  # in the re-training of the second cell: the base model takes six steps
            os.kill(os.getpid(), signal.SIGINT)

    recorder = Recorder(interrupt)
    store = Store(tmp_path / "store")
    todo = open_cells(found, SCALE, store)
    with pytest.raises(RunError, match="run the same command again"):
        run_cells(todo, store, Workshop(tmp_path / "work", {"images": folder}, 0, recorder), SILENT)
    kept = Store(store.folder)
    assert 0 < len(kept) < 4
    run_cells(open_cells(found, SCALE, kept), kept, Workshop(tmp_path / "work", {"images": folder}, 0, SILENT), SILENT)
    for place in found:
        assert outcome(kept.find(place.cells[0])) == outcome(finished[0].find(place.cells[0]))


def test_an_image_that_cannot_be_read_stops_the_cell(folder, found, tmp_path):
    from pathlib import Path

    from rmeeto.errors import DataError

    copy = make_folder(tmp_path / "toys")
    next(Path(copy / "val").rglob("*.png")).write_bytes(b"no picture")
    store = Store(tmp_path / "store")
    with pytest.raises(DataError):
        run_cells(
            open_cells(found, SCALE, store),
            store,
            Workshop(tmp_path / "work", {"images": str(copy)}, 0, SILENT),
            SILENT,
        )
    assert len(store) == 0
