"""Name the likeliest classes of images by the model in this folder.

    python run.py PHOTO.jpg OTHER.png

It needs NumPy, Pillow and the runtime. ``preprocess.json`` says how images are prepared, ``labels.json`` what the
classes are called. A clip is a folder of frames in the order of their names, or an animated picture.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageSequence

HERE = Path(__file__).parent
RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
    "lanczos": Image.Resampling.LANCZOS,
}


def read_json(name: str) -> Any:
    """A file beside this one."""
    return json.loads((HERE / name).read_text(encoding="utf-8"))


def read_input(path: Path, how: dict[str, Any]) -> NDArray[np.float32]:
    """A file as the model takes it: ``(1, c, h, w)``, or ``(1, c, t, h, w)`` of a clip."""
    if how["frames"] == 1:
        with Image.open(path) as image:
            return prepare(image, how)[None]
    frames = list(frames_of(path))
    if not frames:
        raise OSError("no frames are in it")
    chosen = [frames[place] for place in spread(len(frames), how["frames"])]
    return np.stack([prepare(frame, how) for frame in chosen], axis=1)[None]


def frames_of(path: Path) -> Iterator[Image.Image]:
    """The frames of a clip: the pictures in a folder by name, or those of an animated picture."""
    if path.is_dir():
        for file in sorted(path.iterdir()):
            if not file.name.startswith("."):
                with Image.open(file) as image:
                    yield image.copy()
    else:
        with Image.open(path) as animation:
            for frame in ImageSequence.Iterator(animation):
                yield frame.copy()


def spread(length: int, count: int) -> list[int]:
    """The frame in the middle of each of ``count`` equal parts."""
    return [min(int((part + 0.5) * length / count), length - 1) for part in range(count)]


def prepare(image: Image.Image, how: dict[str, Any]) -> NDArray[np.float32]:
    """Resize, crop the middle, normalise: ``(c, h, w)``."""
    size = tuple(how["size"])
    resized = resize(as_mode(image, "L" if how["channels"] == 1 else "RGB"), size, how["crop_pct"], how["resampling"])
    pixels = np.asarray(crop_middle(resized, size), dtype=np.float32).reshape(*size, how["channels"]) / np.float32(255)
    mean, std = (np.array(how[name], dtype=np.float32) for name in ("mean", "std"))
    return np.ascontiguousarray(((pixels - mean) / std).transpose(2, 0, 1))


def as_mode(image: Image.Image, mode: str) -> Image.Image:
    """Grey or colour; 16-bit grey is scaled, and transparency in palettes is resolved."""
    if image.mode.startswith("I;16"):
        image = image.point(lambda value: value / 256).convert("L")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image if image.mode == mode else image.convert(mode)


def resize(image: Image.Image, size: tuple[int, ...], crop_pct: float, resampling: str) -> Image.Image:
    """Scale so that the crop of ``size`` (height, width) takes the share ``crop_pct`` of the shorter side."""
    height, width = (math.floor(side / crop_pct) for side in size)
    if height == width:
        short, long = sorted(image.size)
        other = int(height * long / short)
        wanted = (height, other) if image.width <= image.height else (other, height)
    else:
        ratio = min(image.height / height, image.width / width)
        wanted = (round(image.width / ratio), round(image.height / ratio))
    return image if wanted == image.size else image.resize(wanted, RESAMPLING[resampling])


def crop_middle(image: Image.Image, size: tuple[int, ...]) -> Image.Image:
    """The middle ``size`` (height, width) pixels; a smaller image gets a black border."""
    height, width = size
    if image.width < width or image.height < height:
        left, top = max((width - image.width) // 2, 0), max((height - image.height) // 2, 0)
        canvas = Image.new(image.mode, (max(width, image.width), max(height, image.height)))
        canvas.paste(image, (left, top))
        image = canvas
    top, left = round((image.height - height) / 2), round((image.width - width) / 2)
    return image.crop((left, top, left + width, top + height))


def show(path: Path, logits: NDArray[np.float32], labels: list[str], top: int = 5) -> None:
    """Print the likeliest classes of one input."""
    shares = np.exp(logits - logits.max())
    shares /= shares.sum()
    print(path)
    for label in np.argsort(-shares, kind="stable")[:top]:
        print(f"  {100 * shares[label]:5.1f} %  {labels[label]}")


def parser() -> argparse.ArgumentParser:
    """The arguments that the command has with every runtime."""
    ours = argparse.ArgumentParser(description="Name the likeliest classes of images or clips.")
    ours.add_argument("files", nargs="+", type=Path)
    ours.add_argument("--top", type=int, default=5, help="classes to show")
    ours.add_argument("--logits", type=Path, help="write the logits to this .npy file, one row per input")
    return ours


def answer(asked: argparse.Namespace, load: Callable[..., Any], *options: Any) -> None:
    """Show the classes of every file. load: options to a function from a batch of inputs to logits ``(b, classes)``."""
    how, labels = read_json("preprocess.json"), read_json("labels.json")
    try:
        run = load(*options)
    except ModuleNotFoundError as error:
        raise SystemExit(f"run.py needs {error.name}, which is not installed: pip install {error.name}") from None
    rows = []
    for path in asked.files:
        try:
            one = read_input(path, how)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # all are Pillow's
            wanted = "an image" if how["frames"] == 1 else "a clip, which is a folder of pictures or an animated one"
            raise SystemExit(f"{path} cannot be read as {wanted}: {error}") from None
        rows.append(run(np.repeat(one, how["batch"] or 1, axis=0))[0])  # a fixed number is filled up
        show(path, rows[-1], labels, asked.top)
    if asked.logits:
        try:
            np.save(asked.logits, np.stack(rows))
        except OSError as error:
            raise SystemExit(f"the logits cannot be written: {error}") from None
