"""The main job as a stranger has it: photographs as JPEGs, the default recipe, every verb, warnings as errors.

Generates a folder of pictures as people have them (sizes of photographs, three channels and grey, turned by EXIF,
CMYK, palettes, tiny ones, a truncated one), saves weights of a small model, and runs the command line on them.

    python tests/journeys/jpegs.py FOLDER      # an empty folder, or one that does not exist
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = {"beach": (210, 190, 130), "forest": (40, 110, 50), "night": (20, 20, 60)}
SIZES = [(640, 480), (480, 640), (1024, 768), (500, 375), (33, 47)]
TRAIN, VAL = 40, 10  # pictures of a class
EXIF_ORIENTATION, TURNED = 0x0112, 6
# Every warning is an error but Python's own that a process with threads forks, which the loaders of PyTorch do. Old
# versions of other packages warn of each other while they are imported: there PYTHONWARNINGS says what is forgiven.
WARNINGS = os.environ.get("PYTHONWARNINGS", "error,ignore:This process:DeprecationWarning")
MODEL = ("--reduce", "merge:r=1")


def picture(colour, seed):
    """A scene of blurred shapes and noise around a colour, in the size of a photograph."""
    draw = np.random.default_rng(seed)
    size = SIZES[seed % len(SIZES)]
    coarse = draw.normal(0, 40, (6, 6, 3)) + colour
    scene = Image.fromarray(np.clip(coarse, 0, 255).astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
    grain = draw.normal(0, 12, (size[1], size[0], 3))
    return Image.fromarray(np.clip(np.asarray(scene) + grain, 0, 255).astype(np.uint8))


def save(image, place, number):
    """Most are colour JPEGs; the others are what is also found in such folders."""
    if number % 10 == 3:
        image.convert("L").save(place / f"{number}.jpg")
    elif number % 10 == 5:
        turned = Image.Exif()
        turned[EXIF_ORIENTATION] = TURNED
        image.save(place / f"{number}.jpg", exif=turned)
    elif number % 20 == 7:
        image.convert("CMYK").save(place / f"{number}.jpeg")
    elif number % 20 == 17:
        image.quantize(64).save(place / f"{number}.png", transparency=0)
    else:
        image.save(place / f"{number}.jpg", quality=85)


def make_pictures(root):
    """train/ and val/, a folder for each class; one training picture is cut off and one is no picture at all."""
    for split, count in (("train", TRAIN), ("val", VAL)):
        for label, (name, colour) in enumerate(CLASSES.items()):
            place = root / split / name
            place.mkdir(parents=True)
            for number in range(count):
                save(picture(colour, 10_000 * (split == "val") + 1000 * label + number), place, number)
    Image.new("RGB", (1, 1), "white").save(root / "train/night/one-pixel.png")
    whole = root / "train/beach/0.jpg"
    whole.write_bytes(whole.read_bytes()[:2000])
    (root / "train/forest/not-a-picture.jpg").write_text("a text")
    return root


def save_weights(folder):
    """A small model with the weights that it begins with, as a stranger would save it."""
    import rmeeto

    model = rmeeto.create_model("vim_tiny", img_size=64, depth=6, num_classes=len(CLASSES))
    return rmeeto.save_model(model, folder, name="vim_tiny")


def rmeeto_command(*arguments):
    """Run the command as a process of its own; its standard output."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "rmeeto", *map(str, arguments)],
        env=os.environ | {"PYTHONWARNINGS": WARNINGS},
        capture_output=True,
        text=True,
        check=False,
    )
    print(f"rmeeto {arguments[0]}: {done.returncode} in {time.perf_counter() - started:.1f} s", flush=True)
    if done.returncode or "Traceback" in done.stderr or "Warning" in done.stderr:
        sys.exit(f"{done.stdout}\n{done.stderr}\nrmeeto {arguments[0]} did not end as it should")
    return done


def main(root):
    pictures = make_pictures(root / "pictures")
    weights, run = save_weights(root / "weights"), root / "run"
    data = ("--data", pictures)
    trained = rmeeto_command(
        *("retrain", weights, *data, *MODEL, "--epochs", "5", "-b", "16", "--accumulate", "1", "--lr", "1e-3"),
        *("--output", run, "--json"),
    )
    results = json.loads(trained.stdout)
    assert results["steps"] == 5 * 7
    assert len(results["skipped_images"]) == 2, results["skipped_images"]
    first, last = results["rows"][0], results["rows"][-1]
    assert last["loss"] < first["loss"], (first, last)
    evaluated = json.loads(rmeeto_command("eval", run, *data, "--json").stdout)
    assert evaluated["rows"][-1]["top1_percent"] == last["top1_percent"]
    image = pictures / "val/beach/5.jpg"
    (prediction,) = json.loads(rmeeto_command("predict", run, image, "--json").stdout)["predictions"]
    assert {guess["name"] for guess in prediction["guesses"]} == set(CLASSES)
    rmeeto_command("show", run, pictures / "val/night", "--output", root / "groups.png")
    assert (root / "groups.png").stat().st_size > 1000
    rmeeto_command("bench", run, "--batch", "1", "--seconds", "2")
    print(f"top-1 {first['top1_percent']:.0f} → {last['top1_percent']:.0f} %")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
