import io
import sys
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from rmeeto.data import digits, open_data
from rmeeto.data.timm_source import TimmSource
from rmeeto.errors import DataError
from toys import make_folder, picture


def test_digits_split_is_stratified_disjoint_and_fixed():
    train, val = open_data("digits", "train"), open_data("digits", "val")
    assert (len(train.labels), len(val.labels)) == (1297, 500)
    share = {label: count / 500 for label, count in Counter(val.labels).items()}
    assert all(abs(share[label] - count / 1297) < 0.003 for label, count in Counter(train.labels).items())
    images = np.concatenate([train.pixels, val.pixels]).reshape(1797, 64)
    original, _ = digits._load()
    assert sorted(map(bytes, images)) == sorted(map(bytes, original.reshape(1797, 64)))
    # the weights that ship with rmeeto were trained on exactly this split
    assert [int(val.pixels[i].sum()) for i in (0, 250, 499)] == [5132, 5533, 5422]


def test_digits_are_grey_pictures_that_must_not_be_mirrored():
    source = open_data("digits", "val")
    assert source.glyphs
    image = source.read(0)
    assert (image.mode, image.size) == ("L", (8, 8))
    assert image.getextrema()[0] == 0


def test_digits_without_scikit_learn_name_the_extra(monkeypatch):
    digits._load.cache_clear()
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DataError, match=r'pip install "rmeeto\[demo\]"'):
        open_data("digits", "train")


def test_a_folder_called_digits_is_a_folder(tmp_path, monkeypatch):
    make_folder(tmp_path / "digits", train=1, val=1)
    monkeypatch.chdir(tmp_path)
    assert open_data("digits", "val").classes == ("blue", "green", "red")


def test_torchvision_data_through_timm(tmp_path):
    root = make_folder(tmp_path / "toys", train=2, val=1)
    source = open_data(f"torch/image_folder:{root}", "val")
    assert source.classes == ("blue", "green", "red")
    assert source.labels == (0, 1, 2)
    assert source.read(2).size == (20, 20)
    assert source.name(2).endswith("val/2")


class FakeHuggingFaceReader:
    label_key = "label"

    def __init__(self):
        self.class_to_idx = {"cat": 0, "dog": 1}
        self.dataset = {"label": [1, 0, 1]}

    def __getitem__(self, index):
        file = io.BytesIO()
        picture((index * 50, 0, 0), index).save(file, "png")
        file.seek(0)
        return file, self.dataset["label"][index]


def test_hugging_face_data_are_read_through_timms_reader():
    source = TimmSource("hfds/owner/pets", "train", FakeHuggingFaceReader())
    assert source.classes == ("cat", "dog")
    assert source.labels == (1, 0, 1)
    assert np.array_equal(np.asarray(source.read(1)), np.asarray(picture((50, 0, 0), 1)))
    assert not source.glyphs


def test_streams_are_refused_because_they_cannot_be_resumed():
    with pytest.raises(DataError, match="stream"):
        open_data("wds/owner/shards", "train")


def test_unknown_timm_data_set_carries_timms_reason():
    with pytest.raises(DataError, match="Unknown torchvision dataset nothing"):
        open_data("torch/nothing", "train")


def test_labels_that_cannot_be_listed():
    with pytest.raises(DataError, match="does not list its labels"):
        TimmSource("torch/strange", "train", [(Image.new("L", (2, 2)), 0)])
