import json
from dataclasses import replace

import numpy as np
import pytest

from experiment_results import result_of
from rmeeto.errors import RunError
from rmeeto.experiments.definition import load_table
from rmeeto.experiments.plan import places
from rmeeto.experiments.scale import load_scale
from rmeeto.experiments.store import Speed, Store, packed

CELLS = [
    cell
    for place in places(load_table("5a"), load_scale("small"), {"images": "abc", "clips": None}, 2)
    for cell in place.cells
]


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.mark.parametrize("images", [1, 7, 8, 9, 10_000])
def test_every_images_outcome_is_kept(store, images):
    correct = np.random.default_rng(images).random(images) < 0.6
    store.add(CELLS[0], result_of(CELLS[0], correct))
    read = Store(store.folder).find(CELLS[0])
    assert (read.bits() == correct).all()
    assert read == store.find(CELLS[0])


def test_a_speed_cell_keeps_its_rounds(store):
    speed = Speed(32, (100.0, 101.5), (70.0, 70.5))
    cell = replace(CELLS[0], work="speed")
    store.add(cell, result_of(cell, speed=speed))
    assert Store(store.folder).find(cell).speed == speed


def test_stores_are_put_together_by_copying_files(tmp_path):
    ours, theirs = Store(tmp_path / "ours"), Store(tmp_path / "theirs")
    ours.add(CELLS[0], result_of(CELLS[0]))
    theirs.add(CELLS[1], result_of(CELLS[1]))
    for file in theirs.folder.glob("*.json"):
        (ours.folder / file.name).write_bytes(file.read_bytes())
    both = Store(ours.folder)
    assert len(both) == 2
    assert not both.problems


def damage_half(text):
    return text[: len(text) // 2]


def damage_bits(text):
    content = json.loads(text)
    content["correct"] = packed(np.zeros(3, dtype=bool))
    return json.dumps(content)


def damage_identity(text):
    return text.replace('"seed": 0', '"seed": 5')


def damage_format(text):
    return text.replace('"format": 1', '"format": 99')


def damage_accuracy(text):
    return json.dumps(json.loads(text) | {"top1_percent": None})


def damage_images(text):
    return json.dumps(json.loads(text) | {"images": 1e16})


def damage_speed(text):
    return json.dumps(json.loads(text) | {"speed": {"batch": 32, "images_per_second": [], "unreduced": []}})


def damage_machine(text):
    return json.dumps(json.loads(text) | {"machine": [1]})


@pytest.mark.parametrize(
    "damage",
    [
        damage_half,
        damage_bits,
        damage_identity,
        damage_format,
        damage_accuracy,
        damage_images,
        damage_speed,
        damage_machine,
        lambda text: "[]",
    ],
)
def test_a_damaged_file_is_named_left_alone_and_counts_as_not_run(store, damage):
    store.add(CELLS[0], result_of(CELLS[0]))
    store.add(CELLS[1], result_of(CELLS[1]))
    file = store.folder / f"{CELLS[0].key}.json"
    damaged = damage(file.read_text(encoding="utf-8"))
    file.write_text(damaged, encoding="utf-8")
    again = Store(store.folder)
    assert list(again.problems) == [file.name]
    assert again.find(CELLS[0]) is None
    assert again.find(CELLS[1]) is not None
    assert file.read_text(encoding="utf-8") == damaged
    again.add(CELLS[0], result_of(CELLS[0]))
    assert not Store(store.folder).problems


def test_a_file_under_another_cells_name_is_foreign(store):
    store.add(CELLS[0], result_of(CELLS[0]))
    (store.folder / f"{CELLS[0].key}.json").rename(store.folder / f"{CELLS[1].key}.json")
    again = Store(store.folder)
    assert again.problems[f"{CELLS[1].key}.json"].endswith("it holds another cell than its name says")
    assert again.find(CELLS[1]) is None


def test_two_runs_do_not_share_a_store(store):
    with store.locked(), pytest.raises(RunError, match="another run is writing"), Store(store.folder).locked():
        pass
    with store.locked():
        pass


def test_a_store_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="write to"), Store(tmp_path / "file").locked():
        pass
