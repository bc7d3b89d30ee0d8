"""The end of ``run.py`` in a folder with a PyTorch program: PyTorch, and the command. It needs torch, not rmeeto."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from rmeeto.exporting.standalone.prepare import HERE, read_input, read_json, show


def load(kernels: bool) -> Any:
    """A function from a batch of inputs to the model's results: by plain PyTorch, or by the kernels of rmeeto."""
    import torch

    if kernels:
        import rmeeto.ops  # noqa: F401  # the operations that the program calls

    program = torch.export.load(str(HERE / ("model.pt2" if kernels else "plain.pt2"))).module()

    def run(batch: Any) -> list[Any]:
        with torch.no_grad():
            return [result.numpy() for result in program(torch.from_numpy(batch))]

    return run


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Name the likeliest classes of images or clips.")
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--kernels", action="store_true", help="run model.pt2 by the kernels of an installed rmeeto")
    parser.add_argument("--top", type=int, default=5, help="classes to show")
    parser.add_argument("--logits", type=Path, help="write the logits to this .npy file, one row per input")
    asked = parser.parse_args()
    how, labels, run = read_json("preprocess.json"), read_json("labels.json"), load(asked.kernels)
    rows = []
    for path in asked.files:
        batch = np.repeat(read_input(path, how), how["batch"] or 1, axis=0)
        logits = run(batch)[0][0]
        rows.append(logits)
        show(path, logits, labels, asked.top)
    if asked.logits:
        np.save(asked.logits, np.stack(rows))


if __name__ == "__main__":
    main()
