import sys
import threading
import time

import pytest
from PIL import Image

from rmeeto.data import video
from rmeeto.data.samples import UNREADABLE
from rmeeto.data.video import UnreadableClip, count_frames, read_frames
from rmeeto.errors import DataError
from toy_clips import av, cut, number_of, numbered_clip, sound_only

CONTAINERS = [
    ("plain.mp4", {}),
    ("reordered.mp4", {"b_frames": 2}),
    ("one_key_frame.mp4", {"key_every": 100}),
    ("a.mkv", {}),
    ("reordered.mkv", {"b_frames": 2}),
    ("a.avi", {}),
    ("reordered.avi", {"b_frames": 2}),
    ("broadcast.ts", {"codec": "mpeg2video", "b_frames": 2}),
    ("fragments.mp4", {"movflags": "frag_keyframe+empty_moov"}),
    ("h264.mp4", {"codec": "libx264", "b_frames": 2}),
]


def read_numbers(path, places):
    return [number_of(image) for image in read_frames(path, lambda length: places)]


@pytest.mark.parametrize(("name", "options"), CONTAINERS, ids=[name for name, _ in CONTAINERS])
@pytest.mark.parametrize("places", [[0], [39], [12, 13, 29], [19, 20, 21], [35, 2, 2, 11], list(range(40))], ids=str)
def test_exactly_the_wanted_frames_are_read(tmp_path_factory, name, options, places):
    if options.get("codec", "mpeg4") not in av.codecs_available:
        pytest.skip(f"this PyAV was built without the codec {options['codec']}, so no such file can be made")
    path = tmp_path_factory.getbasetemp() / name
    if not path.exists():
        numbered_clip(path, **options)
    assert read_numbers(path, places) == places


def test_the_number_of_frames_is_known_before_the_choice(tmp_path):
    path = numbered_clip(tmp_path / "a.mkv", count=23)  # its header does not say
    lengths = []
    read_frames(path, lambda length: lengths.append(length) or [0])
    assert lengths == [23]
    assert count_frames(path) == (23, (64, 48))


def test_only_what_is_needed_is_decoded(tmp_path, monkeypatch):
    path = numbered_clip(tmp_path / "a.mp4", count=100)
    steps, check = [], video._check
    monkeypatch.setattr(video, "_check", lambda late: steps.append(1) or check(late))
    read_frames(path, lambda length: [30, 91])
    assert len(steps) <= 101 + 1 + 2 + 2  # packets listed, then frames from the key frames 30 and 90 on


def test_a_place_that_is_wanted_twice_is_one_image(tmp_path):
    first, second = read_frames(numbered_clip(tmp_path / "a.mp4"), lambda length: [7, 7])
    assert first is second


def empty(path):
    path.write_bytes(b"")
    return path


def text(path):
    path.write_text("not a video, " * 200)
    return path


def still(path):
    Image.new("RGB", (16, 16)).save(path, format="PNG")
    return path


BROKEN = {
    "still.mp4": (still, "a picture, not a video"),
    "empty.mp4": (empty, "the file is empty"),
    "text.mp4": (text, "not a whole video"),
    "sound.m4a": (sound_only, "no pictures in it, only audio"),
    "index_at_end.mp4": (lambda path: cut(numbered_clip(path)), "not a whole video"),
    "index_first.mp4": (lambda path: cut(numbered_clip(path, movflags="faststart")), "truncated or damaged after"),
    "fragments.mp4": (
        lambda path: cut(numbered_clip(path, movflags="frag_keyframe+empty_moov")),
        "truncated or damaged",
    ),
    "cut.mkv": (lambda path: cut(numbered_clip(path)), "truncated: 1.. of 4.0 s"),
    "cut.avi": (lambda path: cut(numbered_clip(path)), "truncated or damaged after"),
    "header_only.mkv": (lambda path: cut(numbered_clip(path), 0.02), "not"),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize(
    "read", [lambda path: read_frames(path, lambda length: [0]), count_frames], ids=["some", "all"]
)
def test_what_is_broken_is_named_as_an_unreadable_image_would_be(tmp_path, name, read):
    make, reason = BROKEN[name]
    with pytest.raises(UNREADABLE, match=reason) as error:
        read(make(tmp_path / name))
    assert isinstance(error.value, UnreadableClip)


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_frames(tmp_path / "none.mp4", lambda length: [0])


def test_the_beginning_of_a_broadcast_is_a_shorter_clip(tmp_path):
    decoded, _ = count_frames(cut(numbered_clip(tmp_path / "cut.ts", codec="mpeg2video")))
    assert 5 < decoded < 35


def test_a_decoder_that_hangs_is_left_behind(tmp_path, monkeypatch):
    path = numbered_clip(tmp_path / "a.mp4")
    released = threading.Event()
    monkeypatch.setattr(video, "_opened", lambda path: released.wait())
    started = time.perf_counter()
    with pytest.raises(UnreadableClip, match=r"not decoded within 0\.2 s"):
        read_frames(path, lambda length: [0], timeout_seconds=0.2)
    assert time.perf_counter() - started < 2
    stuck = [thread for thread in threading.enumerate() if thread.name == "clip"]
    assert all(thread.daemon for thread in stuck)
    released.set()


def test_a_slow_decoder_gives_up_by_itself(tmp_path, monkeypatch):
    path = numbered_clip(tmp_path / "a.mp4", count=100)
    check = video._check
    monkeypatch.setattr(video, "_check", lambda late: time.sleep(0.01) or check(late))
    with pytest.raises(UnreadableClip, match="not decoded within"):
        read_frames(path, lambda length: [0], timeout_seconds=0.1)
    for thread in threading.enumerate():
        if thread.name == "clip":
            thread.join(2)
            assert not thread.is_alive()


def test_a_mistake_in_the_choice_is_not_taken_for_a_broken_clip(tmp_path):
    with pytest.raises(ZeroDivisionError):
        read_frames(numbered_clip(tmp_path / "a.mp4"), lambda length: [1 // 0])


def test_without_pyav_one_error_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(DataError, match=r'pip install "rmeeto\[video\]"'):
        read_frames(tmp_path / "a.mp4", lambda length: [0])
