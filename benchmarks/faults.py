"""A whole run with a fault at each of its calls to the disk, one after the other; then it is resumed.

    python benchmarks/faults.py [--faults error "disk full" kill …] [--from 1] [--step 1]

Every open, write, sync, rename and removal of a run fails in six ways (tests/faulty_disk.py): an error before or
after the fact, a full disk, a kill, and two power cuts that keep only what was synced. After each fault, `--resume`
on a sound disk must end with the same weights, scores and log as a run without faults. Prints a table of the calls,
and exits with 1 if a run was lost or ended differently.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

import torch
from safetensors.torch import load_file

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

from faulty_disk import FAULTS, FaultyDisk, in_use  # noqa: E402
from rmeeto.errors import RmeetoError  # noqa: E402
from rmeeto.evaluation.results import load_results  # noqa: E402
from rmeeto.recipe import Recipe  # noqa: E402
from rmeeto.training import retrain  # noqa: E402
from rmeeto.training.runlog import read_log  # noqa: E402
from toys import make_folder, toy_recipe  # noqa: E402

SETTINGS = {"epochs": 1, "batch_size": 6, "ema_decay": 0.9, "reduction": "merge:r=3", "save_every_seconds": 0.0}
PORTIONS = 1 << 16  # bytes: a state is written in three
LOGGED = ("event", "step", "epoch", "loss", "lr", "grad_norm", "top1_percent")


def outcome(folder: Path) -> tuple[object, ...]:
    """Everything that a run leaves, except times."""
    weights = {
        f"{place}/{name}": value.numpy().tobytes()
        for place in ("", "best")
        for name, value in load_file(folder / place / "model.safetensors").items()
    }
    log = [
        {name: record[name] for name in LOGGED if name in record}
        for record in read_log(folder / "log.jsonl")
        if record["event"] in ("step", "evaluation")
    ]
    return weights, load_results(folder).epochs, log, sorted(path.name for path in folder.rglob("*"))


def attempt(recipe: Recipe, disk: FaultyDisk) -> str | None:
    """Run once on this disk; a description of what is wrong at the end, or None."""
    with in_use(disk, PORTIONS):
        try:
            retrain(recipe)
        except RmeetoError:
            pass
        except Exception as error:
            return f"ended in {type(error).__name__}: {error}"
    gc.collect()  # a killed process gives up its lock
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", nargs="+", default=FAULTS, choices=FAULTS)
    parser.add_argument("--from", type=int, default=1, dest="first", help="first call to fail")
    parser.add_argument("--step", type=int, default=1, help="fail every so many calls")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    os.fsync = lambda descriptor: None  # the simulated power cuts do not need it
    root = Path(tempfile.mkdtemp(prefix="faults-"))
    data = make_folder(root / "data", train=4, val=1)

    def recipe(name: str) -> Recipe:
        (root / name).mkdir()
        return toy_recipe(data, root / name, **SETTINGS)

    disk = FaultyDisk(root / "whole")
    attempt(recipe("whole"), disk)
    expected, calls = outcome(root / "whole"), disk.calls
    print(f"{len(calls)} calls: {dict(Counter(calls))}", flush=True)
    tried, bad, began = Counter[str](), [], time.monotonic()
    for fault in arguments.faults:
        for at in range(arguments.first, len(calls) + 1, arguments.step):
            name = f"{fault.replace(' ', '-')}-{at}"
            wanted = recipe(name)
            problem = attempt(wanted, FaultyDisk(root / name, at, fault))
            try:
                retrain(wanted, resume=True)
                if outcome(root / name) != expected:
                    problem = "ended differently"
            except RmeetoError as error:
                problem = f"lost: {error}"
            tried[calls[at - 1]] += 1
            if problem is not None:
                bad.append((fault, at, calls[at - 1], problem))
                print(f"{fault}, call {at} ({calls[at - 1]}): {problem}", flush=True)
        print(f"{fault}: done after {time.monotonic() - began:.0f} s", flush=True)
    print(f"{sum(tried.values())} faults at {dict(tried)}: {len(bad)} ended in neither")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
