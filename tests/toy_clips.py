"""Toy clips: frames that show their own number, so that a test can tell which ones were decoded."""

from pathlib import Path

import numpy as np
import pytest

av = pytest.importorskip("av", reason='reading video needs PyAV: pip install "rmeeto[video]"')

BITS = 8
RATE = 10
MOTIONS = ("left", "right")


def numbered_frame(number, width=64, height=48):
    """The number in binary, as black and white bars in the upper half; noise below."""
    pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
    for bit in range(BITS):
        bar = slice(bit * width // BITS, (bit + 1) * width // BITS)
        pixels[: height // 2, bar] = 235 if number >> bit & 1 else 20
    return pixels


def number_of(image):
    """The number that a decoded frame shows."""
    grey = np.asarray(image.convert("L"), dtype=float)
    upper = grey[: image.height // 2]
    bars = np.array_split(upper, BITS, axis=1)
    return sum(1 << bit for bit, bar in enumerate(bars) if np.median(bar) > 128)


def square_frame(number, direction, width=48, height=32):
    """A bright square that moves left or right over a dark ground."""
    pixels = np.full((height, width, 3), (30, 40, 60), dtype=np.uint8)
    step = number if direction == "right" else -number
    left = (step * 3) % (width - 12)
    pixels[8:20, left : left + 12] = (230, 200, 90)
    return pixels


def write_clip(path: Path, frames, *, codec="mpeg4", key_every=10, b_frames=0, **container) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=container) as file:
        stream = None
        for pixels in frames:
            if stream is None:
                stream = file.add_stream(codec, rate=RATE)
                stream.height, stream.width = pixels.shape[:2]
                stream.pix_fmt, stream.gop_size, stream.bit_rate = "yuv420p", key_every, 2_000_000
                stream.codec_context.max_b_frames = b_frames
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                file.mux(packet)
        for packet in stream.encode():
            file.mux(packet)
    return path


def numbered_clip(path: Path, count=40, **options) -> Path:
    return write_clip(path, (numbered_frame(number) for number in range(count)), **options)


def sound_only(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate = 16000
        for packet in (*stream.encode(frame), *stream.encode()):
            file.mux(packet)
    return path


def make_clip_folder(root: Path, train=4, val=2, count=12) -> Path:
    """Squares that move left or right, from another place in every clip."""
    for split, clips in (("train", train), ("val", val)):
        for direction in MOTIONS:
            for clip in range(clips):
                start = clip * 5 + (split == "val") * 2
                frames = (square_frame(start + number, direction) for number in range(count))
                write_clip(root / split / direction / f"{clip}.mp4", frames)
    return root


def cut(path: Path, share=0.5) -> Path:
    """Lose the end of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path
