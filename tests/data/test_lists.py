import os

import pytest

from rmeeto.data import fingerprint, open_data
from rmeeto.data.classes import Classes, read_classes
from rmeeto.data.folder import ClipFiles, FolderSource
from rmeeto.data.lists import WrongLines, split_line
from rmeeto.errors import DataError
from toy_clips import make_clip_folder, number_of, numbered_clip
from toys import make_folder

CLASSES = Classes(("arm wrestling", "serve"), {"arm_wrestling": 0, "arm wrestling": 0, "serve": 1})


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "kinetics"
    for name in ("a/1.mp4", "a/2 b, c.mp4", "b/3.mp4"):
        touch(root / "videos" / name)
    (root / "train.csv").write_text("a/1.mp4,0\nb/3.mp4,1\n")
    (root / "val.csv").write_text("a/2 b, c.mp4,0\n\nb/3.mp4,1\n")
    (root / "classes.tsv").write_text("index\tdir\tname\n0\tarm_wrestling\tarm wrestling\n1\tserve\tserve\n")
    return root


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a/1.mp4 3", ("a/1.mp4", 3)),
        ("a/1.mp4,3", ("a/1.mp4", 3)),
        ("a/1.mp4, 3", ("a/1.mp4", 3)),
        ("a/1.mp4\t3", ("a/1.mp4", 3)),
        ("arm wrestling/a b.mp4 3", ("arm wrestling/a b.mp4", 3)),
        ("arm wrestling/a b.mp4,3", ("arm wrestling/a b.mp4", 3)),
        ("run, 2.mp4 3", ("run, 2.mp4", 3)),
        ("run,5 7.mp4,3", ("run,5 7.mp4", 3)),
        ("run,5 3", ("run,5", 3)),
        ('"run 1, 2.mp4" 3', ("run 1, 2.mp4", 3)),
        ('"run 1, 2.mp4",3', ("run 1, 2.mp4", 3)),
        ('"run 1, 2.mp4", "3"', ("run 1, 2.mp4", 3)),
    ],
)
def test_lines_that_are_understood(line, expected):
    assert split_line(line, None) == expected


@pytest.mark.parametrize(
    ("line", "label"),
    [
        ("a b.mp4,arm wrestling", 0),
        ('a b.mp4 "serve"', 1),
        ("a b.mp4 arm_wrestling", 0),
        ('"a b.mp4" arm wrestling', 0),
        ("a b.mp4,1", 1),
    ],
)
def test_labels_may_be_names(line, label):
    assert split_line(line, CLASSES) == ("a b.mp4", label)


@pytest.mark.parametrize(
    ("line", "classes", "reason"),
    [
        ("a.mp4", None, "no label behind 'a.mp4'"),
        ("a.mp4,", None, "no label behind"),
        ('"a b.mp4"', None, "no label behind"),
        ("a b.mp4", CLASSES, "no label behind"),
        ("a.mp4 serve", None, "'serve' is not a whole number"),
        ("a.mp4 1.5", None, "'1.5' is not a whole number"),
        ("a.mp4,swim", CLASSES, "'swim' is neither a whole number nor one of the classes"),
        ("a.mp4,-1", None, "label -1 is out of range"),
        ("a.mp4 2", CLASSES, "label 2 is out of range: there are 2 classes"),
    ],
)
def test_lines_that_are_not(line, classes, reason):
    with pytest.raises(ValueError, match=reason):
        split_line(line, classes)


def test_lists_beside_their_videos(folder):
    train, val = open_data(folder, "train"), open_data(folder, "val")
    assert isinstance(val, ClipFiles)
    assert train.classes == val.classes == ("arm wrestling", "serve")
    assert (train.labels, val.labels) == ((0, 1), (0, 1))
    assert val.name(0) == str(folder / "videos" / "a" / "2 b, c.mp4")
    assert fingerprint(train, val) != fingerprint(train)


def test_paths_relative_to_the_list_and_absolute_ones(folder):
    (folder / "val.csv").write_text(f"videos/a/1.mp4 0\n{folder}/videos/b/3.mp4 1\n")
    assert open_data(folder, "val").paths == (f"{folder}/videos/a/1.mp4", f"{folder}/videos/b/3.mp4")


def test_a_prefix_for_clips_that_are_elsewhere(folder, tmp_path):
    moved = (folder / "videos").rename(tmp_path / "elsewhere")
    with pytest.raises(WrongLines):
        open_data(folder, "val")
    assert open_data(f"{folder}:{moved}", "val").paths[1] == str(moved / "b" / "3.mp4")


def test_every_wrong_line_is_named_with_its_number(folder):
    (folder / "val.csv").write_text("a/1.mp4,x\n\na/1.mp4\nb/3.mp4,1\nb/4.mp4,1\nb/3.mp4,2\n")
    with pytest.raises(WrongLines) as error:
        open_data(folder, "val")
    names = [line.removeprefix(f"{folder / 'val.csv'}:").partition(":")[0] for line in error.value.lines]
    assert names == ["1", "3", "5", "6"]
    shown = str(error.value)
    for words in (
        "val.csv:1: label 'x'",
        "val.csv:3: no label",
        "val.csv:5: there is no file 'b/4.mp4'",
        "out of range",
    ):
        assert words in shown
    assert error.value.rest.paths == (str(folder / "videos/b/3.mp4"),)


def test_many_wrong_lines_are_counted(folder):
    (folder / "val.csv").write_text("a/1.mp4,x\n" * 25)
    with pytest.raises(DataError, match="15 more"):
        open_data(folder, "val")


def test_without_names_both_lists_number_the_classes(folder):
    (folder / "classes.tsv").unlink()
    (folder / "train.csv").write_text("a/1.mp4,4\n")
    assert open_data(folder, "val").classes == open_data(folder, "train").classes == tuple("01234")


def test_a_split_without_a_list(folder):
    (folder / "train.csv").unlink()
    with pytest.raises(DataError, match=r"no train\.csv"):
        open_data(folder, "train")


def test_an_empty_list(folder):
    (folder / "val.csv").write_text("\n")
    with pytest.raises(DataError, match="is empty"):
        open_data(folder, "val")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("classes.csv", "id,name\n0,a\n1,b c\n"),
        ("classes.txt", "a\nb c\n"),
        ("classes.tsv", "name\tlabel\na\t0\nb c\t1\n"),
    ],
)
def test_files_of_classes(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    found = read_classes(tmp_path)
    assert found.names == ("a", "b c")
    assert found.labels["b c"] == 1


@pytest.mark.parametrize("content", ["id,name\n0,a\n2,b\n", "id,name\n1,a\n", "a,b\n", "id,name\nx,a\n", ""])
def test_impossible_files_of_classes(tmp_path, content):
    (tmp_path / "classes.csv").write_text(content)
    with pytest.raises(DataError, match="line"):
        read_classes(tmp_path)


def test_a_folder_of_clips_is_found_by_looking(tmp_path):
    root = make_clip_folder(tmp_path / "clips", train=1, val=1, count=2)
    train = open_data(root, "train")
    assert isinstance(train, ClipFiles)
    assert (train.classes, train.labels) == (("left", "right"), (0, 1))
    assert isinstance(open_data(root / "val", "val"), ClipFiles)
    (root / "train" / "up").mkdir()
    with pytest.raises(DataError, match="class 'up' has no clips"):
        open_data(root, "train")


def test_images_stay_images_whatever_lies_beside_them(tmp_path):
    root = make_folder(tmp_path / "images", train=1, val=1)
    (root / "val.txt").write_text("0.png 0\n")
    assert isinstance(open_data(root, "val"), FolderSource)


def test_a_clip_is_read_by_its_number(tmp_path):
    numbered_clip(tmp_path / "val" / "a" / "1.mp4", count=30)
    source = open_data(tmp_path, "val")
    assert [number_of(image) for image in source.read(0, lambda length: [3, length - 1])] == [3, 29]


def numbered(folder, lines):
    """Lists without names of classes."""
    (folder / "classes.tsv").unlink(missing_ok=True)
    (folder / "val.csv").write_text(lines)
    return open_data(folder, "val")


@pytest.mark.timeout(20)
@pytest.mark.parametrize("label", ["999999999999999999999", "30000000", "9" * 5000], ids=len)
def test_a_label_that_would_mean_millions_of_classes_is_a_mistake(folder, label):
    with pytest.raises(WrongLines, match=r"val\.csv:2: label"):
        numbered(folder, f"a/1.mp4,0\nb/3.mp4,{label}\n")


def test_a_huge_label_in_the_other_list_numbers_no_classes_here(folder):
    (folder / "train.csv").write_text("a/1.mp4,30000000\n")
    assert numbered(folder, "a/1.mp4,1\n").classes == ("0", "1")


@pytest.mark.parametrize("label", ["1_0", "１", "+-1", "0x1"])
def test_only_plain_digits_are_a_label(folder, label):
    with pytest.raises(WrongLines, match="not a whole number"):
        numbered(folder, f"a/1.mp4,{label}\n")


def test_lists_as_windows_and_spreadsheets_write_them(folder):
    (folder / "val.csv").write_bytes(b'\xef\xbb\xbf"a/2 b, c.mp4",0\r\n\r\n  b/3.mp4 , 1 \r\n')
    assert open_data(folder, "val").labels == (0, 1)


def test_the_same_clip_may_stand_twice(folder):
    assert numbered(folder, "a/1.mp4,0\na/1.mp4,0\n").labels == (0, 0)


def test_paths_in_another_encoding_are_found_as_they_are_on_disk(folder):
    touch(folder / "videos" / "caf\udce9.mp4")
    (folder / "val.csv").write_bytes(b"caf\xe9.mp4,1\n")
    assert open_data(folder, "val").paths == (str(folder / "videos" / "caf\udce9.mp4"),)
    (folder / "val.csv").write_bytes(b"th\xe9.mp4,1\n")
    with pytest.raises(WrongLines, match=r"th\\xe9\.mp4"):
        open_data(folder, "val")


@pytest.mark.parametrize(
    "content", ["a/1.mp4,0\n".encode("utf-16"), b"\0" * 100, b"x" * 100_000], ids=["UTF-16", "zeros", "one line"]
)
def test_what_is_no_list_is_refused(folder, content):
    (folder / "val.csv").write_bytes(content)
    with pytest.raises(DataError, match="it is not text in UTF-8"):
        open_data(folder, "val")


def test_a_list_that_is_a_pipe_is_not_waited_for(folder):
    (folder / "val.csv").unlink()
    os.mkfifo(folder / "val.csv")
    with pytest.raises(DataError):
        open_data(folder, "val")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("classes.txt", b"caf\xe9\n"),
        ("classes.tsv", b"index\tname\n0\tcaf\xe9\n"),
        ("classes.csv", b'index,name\n0,"' + b"x" * 200_000 + b'"\n'),
        ("classes.csv", b"index,name\n0\n"),
        ("classes.csv", b"index,name\n0,\n"),
    ],
    ids=["Latin-1 names", "Latin-1 table", "endless field", "no name", "empty name"],
)
def test_files_of_classes_that_are_no_such_thing(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match="classes in"):
        read_classes(tmp_path)


def test_a_name_that_two_classes_share_does_not_say_which(folder):
    (folder / "classes.tsv").write_text("index\tdir\tname\n0\ta\tcrane\n1\tb\tcrane\n")
    (folder / "val.csv").write_text("a/1.mp4,1\nb/3.mp4,b\n")
    assert open_data(folder, "val").labels == (1, 1)
    (folder / "val.csv").write_text("a/1.mp4,crane\n")
    with pytest.raises(WrongLines, match="name of several classes"):
        open_data(folder, "val")


@pytest.mark.parametrize("address", ["{folder}:", ":{folder}", "{folder}:{folder}:x", "{folder}:~nobody-of-that-name"])
def test_addresses_with_half_a_prefix(folder, address):
    with pytest.raises(DataError):
        open_data(address.format(folder=folder), "val")
