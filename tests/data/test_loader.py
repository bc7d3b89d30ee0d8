import random
from collections import Counter

import numpy as np
import pytest
import torch

from rmeeto.data import BatchPlan, Preparation, evaluation_batches, open_data, stratified, training_batches
from rmeeto.data.folder import FolderSource
from rmeeto.data.loader import TrainingOrder
from rmeeto.errors import DataError
from toys import make_folder, toy_recipe, truncate

PREPARATION = Preparation(3, (16, 16), (0.5,) * 3, (0.5,) * 3, 0.9, "bicubic")
# fork with threads about is what torch's loader does on Linux
forks = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path / "toys", train=8, val=3)


def batches(folder, first_step=0, rank=0, processes=1, **changes):
    recipe = toy_recipe(folder, "out", **{"batch_size": 4, "color_jitter": 0.4, "random_erasing": 0.5, **changes})
    source = open_data(folder, "train")
    plan = recipe.batch_plan(len(source.labels), processes)
    chosen = {"augmentation": recipe.augmentation, "workers": recipe.workers}
    return list(
        training_batches(source, range(plan.images), PREPARATION, plan, first_step=first_step, rank=rank, **chosen)
    )


def assert_same(ours, theirs):
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.labels, b.labels)


def test_the_seed_decides(folder):
    assert_same(batches(folder), batches(folder))
    other = batches(folder, seed=1)
    assert not torch.equal(batches(folder)[0].images, other[0].images)


@forks
def test_workers_do_not_change_what_is_read(folder):
    assert_same(batches(folder), batches(folder, workers=2))


@pytest.mark.parametrize("step", [1, 5, 6, 11])
def test_starting_in_the_middle_goes_on_as_if_never_stopped(folder, step):
    assert_same(batches(folder)[step:], batches(folder, first_step=step))


def test_starting_in_the_middle_decodes_nothing_of_what_was_before(folder, monkeypatch):
    original, read = FolderSource.read, []

    def counted(self, index):
        read.append(index)
        return original(self, index)

    monkeypatch.setattr(FolderSource, "read", counted)
    batches(folder, first_step=11)
    assert len(read) == 4


def test_what_others_draw_changes_nothing_and_nothing_is_changed_for_them(folder):
    first = batches(folder)
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    before = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    assert_same(first, batches(folder))
    assert random.getstate() == before[0]
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert torch.equal(torch.get_rng_state(), before[2])


def test_epochs_are_different_permutations_of_everything(folder):
    plan = BatchPlan(images=24, batch_size=4, epochs=2)
    draws = [draw for batch in TrainingOrder(plan) for draw in batch]
    first = [draw.place for draw in draws if draw.epoch == 0]
    second = [draw.place for draw in draws if draw.epoch == 1]
    assert sorted(first) == sorted(second) == list(range(24))
    assert first != second


def test_an_image_looks_different_in_every_epoch(folder):
    seen = batches(folder, batch_size=24)
    plan = BatchPlan(images=24, batch_size=24, epochs=2)
    order = [[draw.place for draw in batch] for batch in TrainingOrder(plan)]
    image = [epoch.images[places.index(7)] for epoch, places in zip(seen, order, strict=True)]
    assert not torch.equal(image[0], image[1])


def test_images_left_over_are_others_in_the_next_epoch(folder):
    plan = BatchPlan(images=24, batch_size=10, epochs=2)
    places = [{d.place for batch in TrainingOrder(plan) for d in batch if d.epoch == epoch} for epoch in (0, 1)]
    assert [len(p) for p in places] == [20, 20]
    assert places[0] != places[1]


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_share_each_step(processes, folder):
    whole = BatchPlan(images=24, batch_size=4, accumulate=2, epochs=2)
    shared = BatchPlan(images=24, batch_size=4, accumulate=2, epochs=2, processes=processes)
    steps = [[d for b in chunk for d in b] for chunk in grouped(TrainingOrder(whole), whole.micro_batches)]
    by_rank = [
        [[d for b in chunk for d in b] for chunk in grouped(TrainingOrder(shared, rank=rank), shared.micro_batches)]
        for rank in range(processes)
    ]
    for step, parts in zip(steps, zip(*by_rank, strict=True), strict=True):
        assert sorted(step) == sorted(draw for part in parts for draw in part)


def grouped(order, size):
    drawn = list(order)
    return [drawn[i : i + size] for i in range(0, len(drawn), size)]


def test_an_unreadable_image_is_replaced_by_the_next_and_named(folder):
    broken = truncate(folder / "train" / "green" / "3.png")
    whole = batches(folder, batch_size=24, epochs=1)[0]
    assert len(whole.labels) == 24
    assert len(whole.unreadable) == 1
    assert whole.unreadable[0].startswith(f"{broken}: ")
    assert Counter(whole.labels.tolist()) == {0: 8, 1: 8, 2: 8}


def test_a_vanished_image_counts_as_unreadable(folder):
    source = open_data(folder, "train")
    (folder / "train" / "red" / "7.png").unlink()
    batch = next(training_batches(source, range(24), PREPARATION, BatchPlan(images=24, batch_size=24)))
    assert "No such file" in batch.unreadable[0]
    assert batch.labels.tolist().count(0) == 9  # behind the last image comes the first again


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=forks)])
def test_no_readable_image_at_all(folder, workers):
    for path in (folder / "train").glob("*/*.png"):
        truncate(path)
    with pytest.raises(DataError, match="none of the 24 training images"):
        batches(folder, workers=workers)


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_evaluation_reads_every_image_once(folder, processes):
    source = open_data(folder, "val")
    labels = []
    for rank in range(processes):
        for batch in evaluation_batches(source, PREPARATION, batch_size=2, workers=0, rank=rank, processes=processes):
            labels += batch.labels.tolist()
    assert sorted(labels) == sorted(source.labels)


def test_evaluation_names_what_it_could_not_read(folder):
    broken = truncate(folder / "val" / "red" / "1.png")
    (batch,) = evaluation_batches(open_data(folder, "val"), PREPARATION, batch_size=9, workers=0)
    assert len(batch.labels) == 8
    assert batch.unreadable[0].startswith(str(broken))


def test_a_subset_is_stratified_reproducible_and_nested():
    labels = [0] * 100 + [1] * 50 + [2] * 3
    tenth, fifth = stratified(labels, 0.1, seed=0), stratified(labels, 0.2, seed=0)
    assert Counter(labels[i] for i in tenth) == {0: 10, 1: 5, 2: 1}
    assert set(tenth) < set(fifth)
    assert tenth == stratified(labels, 0.1, seed=0) != stratified(labels, 0.1, seed=1)
    assert stratified(labels, 1.0, seed=0) == tuple(range(153))


def test_the_subset_is_of_the_training_images_only(folder):
    assert len(stratified(open_data(folder, "train").labels, 0.5, seed=0)) == 12
    assert len(open_data(folder, "val").labels) == 9
