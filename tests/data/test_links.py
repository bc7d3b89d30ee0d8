"""Links in data folders: followed if they lead elsewhere, refused by name if they would mislabel files."""

import os

import pytest

from rmeeto.data import open_data
from rmeeto.errors import DataError
from rmeeto.evaluation.prediction import find_files
from toys import make_folder, picture


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path / "toys", train=2, val=1)


def link(place, target):
    os.symlink(target, place)
    return place


def test_a_link_to_a_folder_elsewhere_is_followed(folder, tmp_path):
    (tmp_path / "more").mkdir()
    picture((200, 50, 40), 7).save(tmp_path / "more" / "x.png")
    place = link(folder / "train" / "red" / "linked", tmp_path / "more")
    assert str(place / "x.png") in open_data(folder, "train").paths


def test_a_class_folder_and_a_split_may_be_links(folder, tmp_path):
    (folder / "train" / "red").rename(tmp_path / "red")
    link(folder / "train" / "red", tmp_path / "red")
    assert open_data(folder, "train").labels == (0, 0, 1, 1, 2, 2)
    (folder / "val").rename(tmp_path / "val")
    link(folder / "val", "train")
    assert open_data(folder, "val").labels == (0, 0, 1, 1, 2, 2)


@pytest.mark.parametrize("target", ["..", ".", "../..", "../../..", "/", "../blue", "../../val", "../../val/red"])
def test_a_link_up_or_into_another_class_is_refused_by_name(folder, target):
    place = link(folder / "train" / "red" / "up", target)
    with pytest.raises(DataError, match="label of another class") as error:
        open_data(folder, "train")
    assert str(place) in str(error.value)


def test_two_links_to_the_whole_end_at_once(folder):
    for name in ("a", "b"):
        link(folder / "train" / "red" / name, folder)
    with pytest.raises(DataError, match="red/a is the folder"):
        open_data(folder, "train")


def test_two_links_in_one_class_to_one_folder_do_not_count_its_files_twice(folder, tmp_path):
    (tmp_path / "more").mkdir()
    picture((200, 50, 40), 7).save(tmp_path / "more" / "x.png")
    for name in ("a", "b"):
        link(folder / "train" / "red" / name, tmp_path / "more")
    with pytest.raises(DataError, match="read twice"):
        open_data(folder, "train")


def test_one_folder_under_two_class_names_is_refused(folder):
    link(folder / "train" / "rouge", "red")
    with pytest.raises(DataError, match=r"rouge is the folder .*/red"):
        open_data(folder, "train")


def test_a_file_that_links_to_itself_is_named_when_it_is_read(folder):
    place = link(folder / "train" / "red" / "9.png", "9.png")
    source = open_data(folder, "train")
    with pytest.raises(OSError, match="symbolic links"):
        source.read(source.paths.index(str(place)))


def test_predict_meets_each_file_once_whatever_loops(folder):
    for name in ("a", "b"):
        link(folder / "train" / "red" / name, folder / "train")
    assert len(find_files([str(folder / "train")])) == 6
    assert len(find_files([str(folder / "**" / "*.png")])) == 9
    assert len(find_files([str(folder / "tr*" / "**" / "0.png")])) == 3
    assert len(find_files([str(folder / "train" / "**")])) == 6


def test_predict_follows_links_to_folders_elsewhere(folder, tmp_path):
    link(tmp_path / "here", folder)
    (tmp_path / "inside").mkdir()
    link(tmp_path / "inside" / "there", folder)
    assert len(find_files([str(tmp_path / "here")])) == len(find_files([str(tmp_path / "inside")])) == 9


def test_hidden_folders_are_not_entered(folder):
    (folder / "train" / "red" / ".ipynb_checkpoints").mkdir()
    picture((9, 9, 9), 0).save(folder / "train" / "red" / ".ipynb_checkpoints" / "0-checkpoint.png")
    assert len(open_data(folder, "train").labels) == 6
    assert len(find_files([str(folder)])) == 9
