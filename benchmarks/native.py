"""librmeeto beside the frozen model: opening, speed at batch 1, and from the start of a process to its first answer.

python benchmarks/native.py vim_tiny --program build/rmeeto-run
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from rmeeto import create_model, freeze, native, save_model
from rmeeto.reduction import parse_reduction

IN_PYTHON = """
import sys, torch, rmeeto
from PIL import Image
from rmeeto.data.transforms import Preparation, evaluation_transform
torch.set_num_threads(int(sys.argv[3]))
model = rmeeto.freeze(rmeeto.create_model(sys.argv[1]))
image = evaluation_transform(Preparation.of(model), glyphs=False)(Image.open(sys.argv[2]))[None]
with torch.inference_mode():
    model(image).argmax()
"""
BY_THE_BINDING = """
import sys
from PIL import Image
from rmeeto import native
model = native.load(sys.argv[1])
model.threads = int(sys.argv[3])
model(model.prepare(Image.open(sys.argv[2]))[None]).argmax()
"""


def median_ms(call, repeats):
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - began))
    return statistics.median(times)


def in_turns(first, second, rounds, repeats):
    """Medians of both, and of the ratio of neighbouring rounds."""
    pairs = [(median_ms(first, repeats), median_ms(second, repeats)) for _ in range(rounds)]
    ratios = sorted(one / other for one, other in pairs)
    return *(statistics.median(column) for column in zip(*pairs, strict=True)), statistics.median(ratios), ratios


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="vim_tiny")
    parser.add_argument("--reduce", default="merge:r=11")
    parser.add_argument("--frames", type=int, help="of a clip")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--program", type=Path, help="rmeeto-run")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    sizes = {} if given.frames is None else {"frames": given.frames}
    model = freeze(create_model(given.model, weights=None, **sizes).eval())
    model.reduction = parse_reduction(given.reduce) if given.reduce != "none" else None
    images = torch.randn(1, *model.config.input_size)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        path = native.save(model, folder / "model.rmeeto", precision=given.precision)
        size = path.stat().st_size / 1e6
        print(f"{given.model} {given.reduce} {given.precision}, {given.threads} threads, {size:.1f} MB")
        reading = median_ms(path.read_bytes, 15)
        print(
            f"open {median_ms(lambda: native.load(path).close(), 15):.1f} ms; reading the bytes takes {reading:.1f} ms"
        )
        with native.load(path) as opened, torch.inference_mode():
            opened.threads = given.threads
            array = images.numpy()
            if given.precision == "float32":
                assert np.array_equal(opened(array), model(images).numpy())
            opened(array), model(images)
            ours, theirs, ratio, ratios = in_turns(
                lambda: opened(array), lambda: model(images), given.rounds, given.repeats
            )
            spread = f"{ratios[0]:.3f} to {ratios[-1]:.3f}"
            print(f"native {ours:.2f} ms, frozen {theirs:.2f} ms, ratio {ratio:.3f} ({spread})")
        if model.config.frames > 1:
            return  # programs would need a file for each frame
        saved = save_model(model, folder / "saved", name=given.model)
        draws = np.random.default_rng(0)
        picture = Image.fromarray(draws.integers(0, 256, (375, 500, 3), np.uint8))
        picture.save(folder / "a.ppm")
        ways = {
            "python, frozen": [sys.executable, "-c", IN_PYTHON, saved, folder / "a.ppm", str(given.threads)],
            "python, rmeeto.native": [sys.executable, "-c", BY_THE_BINDING, path, folder / "a.ppm", str(given.threads)],
        }
        if given.program:
            ways["rmeeto-run"] = [given.program, path, folder / "a.ppm", "--threads", str(given.threads)]
        environment = os.environ | {"HF_HUB_OFFLINE": "1"}
        for name, command in ways.items():
            repeats = 3 if name == "python, frozen" else 11
            call = lambda command=command: subprocess.run(command, env=environment, check=True, capture_output=True)  # noqa: E731
            print(f"start to first answer, {name}: {median_ms(call, repeats):.0f} ms")


if __name__ == "__main__":
    main()
