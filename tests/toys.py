"""Toy pictures and toy runs: three colours to tell apart, a network of a few thousand weights, seconds of training."""

from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from rmeeto.recipe import Recipe

COLOURS = {"blue": (40, 60, 200), "green": (40, 190, 60), "red": (200, 50, 40)}
SIZES = {"img_size": 16, "patch_size": 4, "stride": 4, "dim": 16, "depth": 4, "state": 4}


def picture(colour, seed, size=20):
    noise = np.random.default_rng(seed).normal(0, 25, (size, size, 3))
    return Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8))


def make_folder(root: Path, train=8, val=4, colours=COLOURS) -> Path:
    for split, count in (("train", train), ("val", val)):
        for name, colour in colours.items():
            place = root / split / name
            place.mkdir(parents=True)
            for number in range(count):
                picture(colour, seed=(split == "val") * 1000 + number).save(place / f"{number}.png")
    return root


def truncate(path: Path) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path


def toy_recipe(data, output, **changes) -> Recipe:
    settings = {
        "model": "vim_tiny",
        "model_options": SIZES,
        "data": str(data),
        "output": str(output),
        "epochs": 2,
        "batch_size": 8,
        "lr": 3e-3,
        "auto_augment": None,
        "color_jitter": 0,
        "random_erasing": 0,
        "mixup": 0,
        "cutmix": 0,
        "workers": 0,
        "log_every_steps": 1,
    }
    return Recipe().changed(**{**settings, **changes})


class Recorder:
    """A progress that remembers what it was told; ``at_step`` is called with the number of training steps so far."""

    def __init__(self, at_step=lambda step: None):
        self.messages, self.tasks, self.advanced, self.steps, self.at_step = [], [], [], 0, at_step
        self._open = False

    @contextmanager
    def task(self, description, total):
        assert not self._open, "tasks follow one another"
        self._open = True
        self.tasks.append((description, total))
        self.advanced.append(0)
        try:
            yield self
        finally:
            self._open = False

    def advance(self, n=1, **fields):
        self.advanced[-1] += n
        if "left" in fields:
            self.steps += 1
            self.at_step(self.steps)

    def message(self, text):
        self.messages.append(text)
