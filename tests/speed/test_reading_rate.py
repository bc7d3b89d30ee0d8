"""The speed of reading: counted by a clock that the test turns."""

import itertools

import pytest
import torch

from rmeeto.data import Preparation, open_data
from rmeeto.errors import DataError
from rmeeto.speed import reading_rate
from toys import make_folder, truncate

PREPARATION = Preparation(3, (16, 16), (0.5,) * 3, (0.5,) * 3, 1.0, "bicubic")


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path, train=5, val=1)


def test_images_are_counted_by_the_clock(folder):
    seconds = itertools.count(step=2)
    rate = reading_rate(open_data(folder, "train"), PREPARATION, seconds=1e9, clock=lambda: next(seconds))
    assert rate == pytest.approx(15 / 32)  # fifteen images; the clock is read before, after each, and at the end


def test_reading_ends_with_its_time_but_not_before_the_eighth_image(folder):
    seconds = itertools.count(step=2)
    rate = reading_rate(open_data(folder, "train"), PREPARATION, seconds=1, clock=lambda: next(seconds))
    assert rate == pytest.approx(8 / 18)


def test_the_threads_are_as_before(folder):
    before = torch.get_num_threads()
    reading_rate(open_data(folder, "train"), PREPARATION, most=2)
    assert torch.get_num_threads() == before


def test_images_none_of_which_can_be_read_are_refused(folder):
    for path in folder.glob("train/*/*.png"):
        truncate(path)
    with pytest.raises(DataError, match="not one of its images"):
        reading_rate(open_data(folder, "train"), PREPARATION)
