import pytest

from rmeeto.data import check_classes, fingerprint, open_data
from rmeeto.data.folder import open_folder
from rmeeto.errors import DataError, UnknownName
from toys import make_folder, picture


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path / "toys", train=3, val=2)


def test_labels_are_ranks_of_the_class_names(folder):
    train, val = open_data(folder, "train"), open_data(folder, "val")
    assert train.classes == val.classes == ("blue", "green", "red")
    assert train.labels == (0,) * 3 + (1,) * 3 + (2,) * 3
    assert val.labels == (0, 0, 1, 1, 2, 2)
    assert train.name(3) == str(folder / "train" / "green" / "0.png")
    assert train.read(3).getpixel((0, 0)) == picture((40, 190, 60), seed=0).getpixel((0, 0))


def test_a_class_without_validation_images_does_not_shift_the_others(folder):
    for path in (folder / "val" / "blue").iterdir():
        path.unlink()
    (folder / "val" / "blue").rmdir()
    assert open_data(folder, "val").labels == (1, 1, 2, 2)


def test_a_folder_of_class_folders_serves_for_evaluation_only(folder):
    source = open_data(folder / "val", "val")
    assert source.labels == (0, 0, 1, 1, 2, 2)
    with pytest.raises(DataError, match="evaluation only"):
        open_data(folder / "val", "train")


def test_hidden_and_foreign_files_are_not_images(folder):
    (folder / "val" / "red" / "._0.png").write_bytes(b"left by a Mac")
    (folder / "val" / "red" / "notes.txt").write_text("x")
    (folder / "val" / ".cache").mkdir()
    assert len(open_data(folder, "val").labels) == 6


def test_images_are_found_in_subfolders_and_whatever_the_case_of_the_ending(folder):
    (folder / "val" / "red" / "more").mkdir()
    picture((200, 50, 40), 7).save(folder / "val" / "red" / "more" / "A.JPEG")
    assert open_data(folder, "val").labels == (0, 0, 1, 1, 2, 2, 2)


def test_missing_folder(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        open_data(tmp_path / "nothing", "val")


def test_file_in_place_of_a_folder(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="it is a file"):
        open_data(tmp_path / "file", "val")


def test_empty_folder(tmp_path):
    with pytest.raises(DataError, match="no class folders"):
        open_data(tmp_path, "val")


def test_loose_images(tmp_path):
    picture((9, 9, 9), 0).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="1 images directly in it"):
        open_data(tmp_path, "val")


def test_class_folders_without_images(tmp_path):
    (tmp_path / "cat").mkdir()
    with pytest.raises(DataError, match="none of them holds an image"):
        open_data(tmp_path, "val")


def test_a_class_without_training_images_is_named(folder):
    (folder / "train" / "yellow").mkdir()
    with pytest.raises(DataError, match="class 'yellow' has no images"):
        open_data(folder, "train")


def test_a_class_that_training_does_not_know_is_named(folder):
    (folder / "val" / "red").rename(folder / "val" / "rot")
    with pytest.raises(DataError, match="rot beside 3 classes"):
        open_data(folder, "val")


def test_train_without_val_is_not_taken_for_a_class(folder):
    (folder / "val").rename(folder.parent / "elsewhere")
    with pytest.raises(DataError, match="no val/"):
        open_data(folder, "val")


def test_unknown_split(folder):
    with pytest.raises(UnknownName, match="val"):
        open_data(folder, "vall")


def test_class_count_mismatch_says_both_counts(folder):
    with pytest.raises(DataError, match=r"3 classes of images \(blue, green, red\), a head for 1000 classes"):
        check_classes(open_data(folder, "val"), 1000)


def test_fingerprint_ignores_the_place_and_sees_the_names(folder, tmp_path):
    def both(root):
        return fingerprint(open_folder(str(root), "train"), open_folder(str(root), "val"))

    before = both(folder)
    moved = folder.rename(tmp_path / "moved")
    assert both(moved) == before
    (moved / "train" / "red" / "0.png").rename(moved / "train" / "red" / "9.png")
    assert both(moved) != before
