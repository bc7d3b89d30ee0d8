"""The playground in headless Chromium: from the start of loading to the first answer, and milliseconds an image.

python docs/playground/build.py --output build/playground && python benchmarks/playground.py build/playground/index.html

The library's own milliseconds on one thread stand beside. The page waits for its measurement, medians of seven rounds.
"""

import argparse
import base64
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from rmeeto import create_model, native

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from chromium import Page

FIRST_ANSWER = "performance.getEntriesByName('answer')[0]?.startTime"
MEASURED = "document.getElementById('speed').textContent.startsWith('Merging')"
TIMES = "['whole-time', 'merged-time'].map(id => Number(document.getElementById(id).textContent))"


def settled_times(page):
    """The page's milliseconds, unreduced and merged, after all rounds of its measurement."""
    page.wait(MEASURED)
    before = None
    while (now := page.run(TIMES)) != before:
        before = now
        time.sleep(2)
    return now


def library_times(path):
    """The library's milliseconds on one thread, unreduced and merged."""
    model = native.load(path)
    model.threads = 1
    image = np.random.default_rng(0).normal(size=(1, *model.input_size)).astype(np.float32)
    times = {schedule: [] for schedule in ((0,) * model.depth, model.removed)}
    for _ in range(25):
        for schedule, taken in times.items():
            began = time.perf_counter()
            model.with_map(image, schedule)
            taken.append(1e3 * (time.perf_counter() - began))
    return [statistics.median(taken) for taken in times.values()]


def report(name, in_page, path):
    for way, page, library in zip(("unreduced", "merged"), in_page, library_times(path), strict=True):
        print(f"{name}, {way}: page {page:.2f} ms, library {library:.2f} ms, {page / library:.1f} times as long")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("--loads", type=int, default=7)
    given = parser.parse_args()
    text = given.page.read_text()
    parts = {
        name: base64.b64decode(re.search(f'id="{name}">([^<]*)', text)[1]) for name in ("library-bytes", "model-bytes")
    }
    sizes = ", ".join(f"{name} {len(data) / 1e6:.2f} MB" for name, data in parts.items())
    print(f"page {len(text) / 1e6:.2f} MB: {sizes}")
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        vim = native.save(
            create_model("vim_tiny", weights=None, reduction="merge:r=11"), Path(folder) / "vim_tiny.rmeeto"
        )
        page = Page(Path(folder) / "profile")
        try:
            loads = []
            for _ in range(given.loads):
                page.open(given.page.resolve())
                page.wait(FIRST_ANSWER)
                loads.append(page.run(FIRST_ANSWER))
            spread = f"{min(loads):.0f} to {max(loads):.0f}"
            print(f"first answer after {statistics.median(loads):.0f} ms ({spread}, {len(loads)} loads)")
            digits = Path(folder) / "digits.rmeeto"
            digits.write_bytes(parts["model-bytes"])
            report("digits", settled_times(page), digits)
            root = page.send("DOM.getDocument")["root"]["nodeId"]
            chooser = page.send("DOM.querySelector", nodeId=root, selector="#model-file")["nodeId"]
            page.send("DOM.setFileInputFiles", nodeId=chooser, files=[str(vim)])
            page.wait("document.getElementById('kicker').textContent.endsWith('vim_tiny.rmeeto')")
            report("Vim-Ti", settled_times(page), vim)
        finally:
            page.close()


if __name__ == "__main__":
    main()
