"""Files among images and clips that are neither, or damaged: named, and never waited for."""

import os
import socket
import struct
import zlib

import pytest
from PIL import Image

from rmeeto.data import open_data
from rmeeto.data.check import check_data
from rmeeto.data.image_file import read_image_file
from rmeeto.data.samples import UNREADABLE
from rmeeto.data.video import UnreadableClip, count_frames
from rmeeto.errors import DataError
from rmeeto.evaluation.prediction import find_files
from toys import make_folder, picture

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path / "toys", train=2, val=1)


def reason(path):
    with pytest.raises(UNREADABLE) as error:
        read_image_file(path)
    return str(error.value)


def broken(folder):
    return {line for split in check_data(str(folder), workers=0).splits for line in split.broken}


@pytest.fixture
def sock(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as one:
        one.bind("socket.jpg")
        yield tmp_path / "socket.jpg"


def test_pipes_sockets_and_devices_are_never_opened(folder, sock):
    red = folder / "train" / "red"
    os.mkfifo(red / "fifo.jpg")
    os.symlink("/dev/zero", red / "device.jpg")
    os.symlink(sock, red / "socket.jpg")
    assert broken(folder) == {
        f"{red}/fifo.jpg: a named pipe, not a file",
        f"{red}/device.jpg: a device, not a file",
        f"{red}/socket.jpg: a socket, not a file",
    }
    assert len(find_files([str(red)])) == 2, "predict looks for files"


def test_a_pipe_that_is_no_clip(tmp_path):
    os.mkfifo(tmp_path / "a.mp4")
    with pytest.raises(OSError, match="named pipe"):
        count_frames(tmp_path / "a.mp4")


def test_a_file_that_becomes_a_pipe_after_the_look_is_not_waited_for(tmp_path, monkeypatch):
    picture((9, 9, 9), 0).save(tmp_path / "file.png")
    os.mkfifo(tmp_path / "fifo.png")
    status = os.stat(tmp_path / "file.png")
    monkeypatch.setattr("rmeeto.files.paths.os.stat", lambda path: status)
    assert "named pipe" in reason(tmp_path / "fifo.png")


def test_a_folder_called_like_an_image_is_searched_like_any_other(folder):
    place = folder / "train" / "red" / "more.jpg"
    place.mkdir()
    picture((200, 50, 40), 7).save(place / "x.png")
    assert str(place / "x.png") in open_data(folder, "train").paths
    assert not broken(folder)


def test_empty_and_foreign_files_say_what_they_are(tmp_path):
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("<html>404 not found</html>")
    assert reason(tmp_path / "empty.jpg") == "the file is empty"
    assert "cannot identify image file" in reason(tmp_path / "text.jpg")
    assert "No such file" in reason(tmp_path / "missing.jpg")


@pytest.mark.parametrize("kind", ["jpeg", "png", "gif", "webp", "bmp", "tiff", "ppm"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7])
def test_truncated_images_are_unreadable(tmp_path, kind, share):
    path = tmp_path / f"whole.{kind}"
    picture((200, 50, 40), 7, size=64).save(path)
    read_image_file(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert reason(path)


def png_of(width, height):
    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [10_000, 60_000])
def test_a_decompression_bomb_is_named_before_it_unpacks(tmp_path, side):
    (tmp_path / "bomb.png").write_bytes(png_of(side, side))
    assert "pixels, which Pillow takes for an attack" in reason(tmp_path / "bomb.png")


def test_images_in_every_mode_are_read(tmp_path):
    small = picture((200, 50, 40), 7)
    for mode in ("1", "L", "LA", "P", "RGBA", "I;16"):
        image = Image.new("I;16", (20, 20), 40_000) if mode == "I;16" else small.convert(mode)
        image.save(tmp_path / f"{mode[0]}{len(mode)}.png")
    small.convert("CMYK").save(tmp_path / "cmyk.jpg")
    small.save(tmp_path / "a.gif", save_all=True, append_images=[picture((1, 2, 3), 1)])
    small.save(tmp_path / "a.webp", save_all=True, append_images=[picture((1, 2, 3), 1)])
    exif = Image.Exif()
    exif[0x9286] = b"x" * 60_000
    small.save(tmp_path / "exif.jpg", exif=exif)
    for path in tmp_path.iterdir():
        assert read_image_file(path).size == (20, 20), path


def test_a_folder_that_cannot_be_listed_is_named(folder, monkeypatch):
    scandir = os.scandir

    def closed(place):
        if str(place).endswith("red"):
            raise PermissionError(13, "Permission denied", str(place))
        return scandir(place)

    monkeypatch.setattr("rmeeto.data.walk.os.scandir", closed)
    with pytest.raises(DataError, match=r"list the files in .*train/red[\s\S]*Permission denied"):
        open_data(folder, "train")


@pytest.mark.parametrize("address", ["", "a\0b", "~nobody-of-that-name/x", "x" * 5000])
def test_impossible_paths_are_refused(address):
    with pytest.raises(DataError, match="path"):
        open_data(address, "val")
    with pytest.raises(DataError, match="path"):
        find_files([address])


def test_class_names_that_look_alike_are_refused(folder):
    for name in ("caf\u00e9", "cafe\u0301"):
        (folder / "train" / name).mkdir()
        picture((9, 9, 9), 0).save(folder / "train" / name / "0.png")
    with pytest.raises(DataError, match=r"different Unicode characters"):
        open_data(folder, "train")


def test_a_class_that_both_splits_spell_in_their_own_way_is_explained(folder):
    (folder / "train" / "red").rename(folder / "train" / "caf\u00e9")
    (folder / "val" / "red").rename(folder / "val" / "cafe\u0301")
    with pytest.raises(DataError, match=r"look alike, but are written with different Unicode"):
        open_data(folder, "val")


def test_classes_that_differ_in_case_are_two_classes(folder):
    (folder / "train" / "Red").mkdir()
    picture((9, 9, 9), 0).save(folder / "train" / "Red" / "0.png")
    assert open_data(folder, "train").classes == ("Red", "blue", "green", "red")


def test_an_unreadable_clip_says_that_it_is_empty(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"")
    with pytest.raises(UnreadableClip, match="empty"):
        count_frames(tmp_path / "a.mp4")
