"""The end of ``run.py`` in a folder with the C library: its binding, and the command."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from rmeeto.exporting.standalone.prepare import HERE, read_input, read_json, show


def load() -> Any:
    """The model, which is called with a batch of inputs and gives logits."""
    import rmeeto_native

    return rmeeto_native.load(HERE / "model.rmeeto")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Name the likeliest classes of images or clips.")
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--top", type=int, default=5, help="classes to show")
    parser.add_argument("--logits", type=Path, help="write the logits to this .npy file, one row per input")
    asked = parser.parse_args()
    how, labels, model = read_json("preprocess.json"), read_json("labels.json"), load()
    rows = []
    for path in asked.files:
        logits = model(read_input(path, how))[0]
        rows.append(logits)
        show(path, logits, labels, asked.top)
    if asked.logits:
        np.save(asked.logits, np.stack(rows))


if __name__ == "__main__":
    main()
