"""Clips on disk: reads the requested frames of a clip, and no others. Only this module imports PyAV.

What is wrong with a file becomes one :class:`UnreadableClip`, so that it can be named and skipped like an image.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rmeeto.errors import DataError
from rmeeto.files.paths import check_file

TIMEOUT_SECONDS = 60.0
MISSING_SHARE = 0.1  # of the declared length: containers round, and sound may outlast the picture
PICTURE_FORMATS = ("_pipe", "image2")  # what FFmpeg calls single pictures
COVER_PICTURE = 0x400  # FFmpeg's disposition of a still picture in a music file

Frames = tuple[Image.Image, ...]
Pick = Callable[[int], Sequence[int]]
Result = TypeVar("Result")


class UnreadableClip(OSError):
    """A clip that cannot be decoded, and why."""


@dataclass(frozen=True)
class Start:
    """A frame that needs no other: decoding can begin here. time, order: its pts and dts."""

    time: int
    order: int


@dataclass(frozen=True)
class Index:
    """Where the frames of a clip are. times: their pts, ascending. starts: where decoding can begin, ascending."""

    times: tuple[int, ...]
    starts: tuple[Start, ...]

    def start_before(self, time: int) -> Start:
        """The last start that is not after a time."""
        place = bisect_right([start.time for start in self.starts], time)
        return self.starts[max(place - 1, 0)]


def require_av() -> Any:
    """PyAV.

    Raises:
        DataError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise DataError(
            "read or write video", why="it needs PyAV, which is not installed", fix='pip install "rmeeto[video]"'
        ) from error
    return av


def read_frames(path: str | Path, pick: Pick, *, timeout_seconds: float = TIMEOUT_SECONDS) -> Frames:
    """The frames of a clip that ``pick`` chooses, given how many there are: places from 0, ascending or not.

    Packets are listed first (without decoding), so that places are exact also where the header is silent or the
    rate changes; then the decoder starts at the nearest key frame before each requested place.

    Raises:
        UnreadableClip: not a video, empty, without pictures, truncated, damaged, or too slow.
    """

    def work(late: Event) -> Frames:
        with _opened(path) as container:
            stream = _picture_stream(container)
            index = _index(container, stream, late)
            places = list(pick(len(index.times)))
            images = _decode(container, stream, index, sorted(set(places)), late)
            return tuple(images[place] for place in places)

    return _in_time(work, timeout_seconds)


def count_frames(path: str | Path, *, timeout_seconds: float = TIMEOUT_SECONDS) -> tuple[int, tuple[int, int]]:
    """Decode a whole clip and return how many frames it has, and their width and height. Raises as above."""

    def work(late: Event) -> tuple[int, tuple[int, int]]:
        with _opened(path) as container:
            stream = _picture_stream(container)
            index = _index(container, stream, late)
            container.seek(index.starts[0].order, stream=stream)
            decoded, size = 0, (0, 0)
            for frame in container.decode(stream):
                _check(late)
                decoded, size = decoded + 1, (frame.width, frame.height)
            if decoded < (1 - MISSING_SHARE) * len(index.times):
                raise UnreadableClip(f"{decoded} of {len(index.times)} frames can be decoded")
            return decoded, size

    return _in_time(work, timeout_seconds)


def write_mp4(file: str | Path | BinaryIO, frames: Iterable[NDArray[np.uint8]], frames_per_second: int) -> None:
    """Write ``(height, width, 3)`` frames as an MP4 that browsers play: H.264 where PyAV has it, else MPEG-4.

    An odd last row or column is cut off, which these codecs do not know.

    Raises:
        DataError: PyAV is missing.
    """
    av = require_av()
    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    with av.open(str(file) if isinstance(file, str | Path) else file, "w", format="mp4") as container:
        stream = container.add_stream(codec, rate=frames_per_second)
        stream.pix_fmt = "yuv420p"
        for number, pixels in enumerate(frames):
            if number == 0:
                stream.height, stream.width = (side - side % 2 for side in pixels.shape[:2])
            even = np.ascontiguousarray(pixels[: stream.height, : stream.width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
        container.mux(stream.encode())


def _in_time(work: Callable[[Event], Result], seconds: float) -> Result:
    """Do the work in a thread, because FFmpeg may hang where no signal reaches it.

    A thread that is late gives up at its next frame; one that hangs is left behind and ends with the process.
    """
    av = require_av()
    late, results, errors = Event(), list[Result](), list[BaseException]()

    def run() -> None:
        try:
            results.append(work(late))
        except BaseException as error:
            errors.append(error)

    thread = Thread(target=run, name="clip", daemon=True)
    thread.start()
    thread.join(seconds)
    if results:
        return results[0]
    if not errors:
        late.set()
        raise UnreadableClip(f"not decoded within {seconds:g} s")
    (error,) = errors
    if isinstance(error, av.error.FFmpegError):
        raise UnreadableClip(f"not a whole video ({error.strerror})") from error
    raise error


def _check(late: Event) -> None:
    if late.is_set():
        raise UnreadableClip("too slow")


def _opened(path: str | Path) -> Any:
    status = Path(path).stat()  # a missing file is an OSError of its own
    check_file(status)
    if not status.st_size:
        raise UnreadableClip("the file is empty")
    container = require_av().open(str(path))
    if container.format.name.endswith(PICTURE_FORMATS):
        container.close()
        raise UnreadableClip("a picture, not a video")
    return container


def _picture_stream(container: Any) -> Any:
    for stream in container.streams.video:
        if not int(getattr(stream, "disposition", 0)) & COVER_PICTURE:
            stream.codec_context.thread_count = 1  # parallel over clips, in the workers
            return stream
    kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
    raise UnreadableClip(f"no pictures in it, only {kinds}")


def _index(container: Any, stream: Any, late: Event) -> Index:
    """List the packets of a clip.

    Raises:
        UnreadableClip: there are none, or fewer than the file says.
    """
    times: list[int] = []
    starts: list[Start] = []
    for packet in container.demux(stream):
        _check(late)
        if packet.is_corrupt:
            raise UnreadableClip(f"truncated or damaged after {len(times)} frames")
        if not packet.size or packet.is_discard:
            continue
        order = packet.dts if packet.dts is not None else packet.pts
        time = packet.pts if packet.pts is not None else order
        if time is None:
            raise UnreadableClip("its frames carry no times")
        times.append(time)
        if packet.is_keyframe:
            starts.append(Start(time, order))
    if not times or not starts:
        raise UnreadableClip("not one frame in it")
    times.sort()
    _check_whole(stream, times)
    return Index(tuple(times), tuple(sorted(starts, key=lambda start: start.time)))


def _check_whole(stream: Any, times: list[int]) -> None:
    """Compare the frames found with the length that the file declares, if it declares one.

    A broadcast (.ts) declares none: its beginning is a shorter clip, not a broken one.
    """
    declared = _declared_seconds(stream)
    if len(times) >= stream.frames > 0 or declared is None:
        return
    steps = max(len(times) - 1, 1)
    seconds = float((times[-1] - times[0]) * stream.time_base) * (1 + 1 / steps)
    if seconds < (1 - MISSING_SHARE) * declared:
        raise UnreadableClip(f"truncated: {seconds:.1f} of {declared:.1f} s are there")


def _declared_seconds(stream: Any) -> float | None:
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    tag = stream.metadata.get("DURATION")  # Matroska and WebM
    try:
        hours, minutes, seconds = tag.split(":")
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    except (AttributeError, ValueError):
        return None


def _decode(container: Any, stream: Any, index: Index, places: Sequence[int], late: Event) -> dict[int, Image.Image]:
    """The frames at some places, ascending. If the decoder leaves a frame out, the next one is taken."""
    images: dict[int, Image.Image] = {}
    converter = require_av().video.reformatter.VideoReformatter()  # a frame by itself sets up one of its own
    frames, frame = iter(()), None
    for place in places:
        target = index.times[place]
        start = index.start_before(target)
        if frame is None or start.time > frame.pts:
            container.seek(start.order, stream=stream)
            frames, frame = container.decode(stream), None
        while frame is None or frame.pts < target:
            _check(late)
            following = next(frames, None)
            if following is None:
                break
            frame = following
        if frame is None:
            raise UnreadableClip(f"frame {place} of {len(index.times)} cannot be decoded")
        images[place] = converter.reformat(frame, format="rgb24").to_image()
    return images
