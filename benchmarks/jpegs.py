"""Re-training on a folder of JPEGs by the default recipe, for several seeds: does it run to its end?

Each seed is one command, ``rmeeto retrain``, with warnings as errors. Weights are random, which is enough to find
crashes, unreadable images and leftover files; accuracy then shows only that something is learnt.
Prints a markdown table and writes benchmarks/results/jpegs.json.

    python benchmarks/jpegs.py FOLDER [--steps 500] [--seeds 0 1 2] [--runs RUNS]

FOLDER holds train/CLASS/*.jpg and val/CLASS/*.jpg.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rmeeto.data import open_data
from rmeeto.evaluation.results import load_results

OUTPUT = Path(__file__).parent / "results/jpegs.json"
MODEL, SIZE, REDUCE, BATCH = "vim_tiny", 64, "merge:r=1", 32  # 17 tokens
LR = 1e-3  # the default is for trained weights, and these are random


def train(data, seed, epochs, output):
    """One run; its row of the table."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "rmeeto", "retrain", MODEL, "--weights", "random", "--data", str(data)]
    command += ["--img-size", str(SIZE), "--reduce", REDUCE, "--batch", str(BATCH), "--accumulate", "1"]
    command += ["--epochs", str(epochs), "--lr", str(LR), "--seed", str(seed), "--output", str(output), "--resume"]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONWARNINGS": warnings_as_errors()}, capture_output=True, text=True, check=False
    )
    row = {"seed": seed, "exit_code": done.returncode, "seconds": time.perf_counter() - started}
    if done.returncode:
        return row | {"message": done.stderr.strip().splitlines()[-8:]}
    results = load_results(output)
    before, after = results.rows[0], results.rows[-1]
    return row | {
        "steps": results.steps,
        "images": results.train_images,
        "unreadable": len(results.skipped_images),
        "skipped_steps": results.skipped_steps,
        "top1_before": before.top1_percent,
        "top1_after": after.top1_percent,
        "loss_before": before.loss,
        "loss_after": after.loss,
        "versions": results.versions,
    }


def warnings_as_errors():
    """All warnings but Python's own about worker processes, which fork from a process with threads."""
    return "error,ignore:This process:DeprecationWarning"


def markdown(rows):
    lines = [
        "| seed | exit code | steps | images | unreadable | skipped steps | top-1 before → after, % | loss | seconds |",
        "|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        if row["exit_code"]:
            lines.append(
                f"| {row['seed']} | {row['exit_code']} | " + " | ".join("–" * 6) + f" | {row['seconds']:.0f} |"
            )
            continue
        lines.append(
            f"| {row['seed']} | 0 | {row['steps']} | {row['images']} | {row['unreadable']} | {row['skipped_steps']} "
            f"| {row['top1_before']:.1f} → {row['top1_after']:.1f} "
            f"| {row['loss_before']:.2f} → {row['loss_after']:.2f} | {row['seconds']:.0f} |"
        )
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=500, help="at least so many; whole epochs are trained")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, help="keep the runs here, and go on with those that were cut off")
    wanted = parser.parse_args()
    steps_per_epoch = len(open_data(wanted.folder, "train").labels) // BATCH
    rows = []
    for seed in wanted.seeds:
        with tempfile.TemporaryDirectory() as folder:
            output = Path(wanted.runs or folder, f"seed{seed}")
            rows.append(train(wanted.folder, seed, math.ceil(wanted.steps / steps_per_epoch), output))
        print(markdown(rows[-1:]).splitlines()[-1], rows[-1].get("message", ""), file=sys.stderr, flush=True)
    print(markdown(rows))
    OUTPUT.parent.mkdir(exist_ok=True)
    OUTPUT.write_text(json.dumps({"model": MODEL, "size": SIZE, "reduction": REDUCE, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
