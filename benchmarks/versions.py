"""Is another version of rmeeto slower? Two checkouts take turns, pass by pass, on one machine.

    python benchmarks/versions.py --old OTHER/src --new src [--pairs 5] [--rounds 9]

Each pair is two new processes, one for each version, both with their kernels built. A process does one pass, says how
long it took and waits while the other does the same, so a machine that becomes slower for a second slows both. A pair
gives one ratio, new over old, of the medians of its rounds; the table has the median over the pairs and all of them.
The result goes to benchmarks/results/versions.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from itertools import product
from pathlib import Path

SETTINGS = [
    {"model": model, "dtype": dtype, "r": r, "batch": batch, "kind": "frozen"}
    for model, batch, dtype, r in product(("vim_tiny", "vim_small"), (1, 8), ("float32", "bfloat16"), (0, 11, 20))
] + [
    {"model": model, "dtype": "float32", "r": r, "batch": 8, "kind": "training"}
    for model, r in product(("vim_tiny", "vim_small"), (0, 11))
]


def main() -> None:
    parser = argparse.ArgumentParser(description="Time two versions of rmeeto in turns.")
    parser.add_argument("--old", required=True, type=Path, help="folder that holds the package of the old version")
    parser.add_argument("--new", required=True, type=Path, help="folder that holds the package of the new version")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", default="", help="only settings whose name contains this")
    options = parser.parse_args()
    chosen = [setting for setting in SETTINGS if options.only in name_of(setting)]
    found: dict[str, list[tuple[float, float]]] = {name_of(setting): [] for setting in chosen}
    for pair in range(options.pairs):
        sides = [Side(options.old), Side(options.new)]
        for setting in chosen:
            for side in sides:
                side.ask(setting)
            rounds = [[side.time() for side in (sides if turn % 2 else sides[::-1])] for turn in range(options.rounds)]
            rounds = [times if turn % 2 else times[::-1] for turn, times in enumerate(rounds)]
            old, new = (statistics.median(times) for times in zip(*rounds, strict=True))
            found[name_of(setting)].append((old, new))
        for side in sides:
            side.end()
        print(f"pair {pair + 1} of {options.pairs}", file=sys.stderr, flush=True)
    show(found)
    from _timing import save

    save("versions", {"rounds": options.rounds, "seconds": found})


def name_of(setting: dict[str, object]) -> str:
    return f"{setting['model']}, {setting['kind']}, {setting['dtype']}, batch {setting['batch']}, r = {setting['r']}"


def show(found: dict[str, list[tuple[float, float]]]) -> None:
    print("| setting | old, ms | new, ms | new / old, median | pairs |\n|---|---|---|---|---|")
    for name, pairs in found.items():
        old, new = (1e3 * statistics.median(times) for times in zip(*pairs, strict=True))
        ratios = [new / old for old, new in pairs]
        listed = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        print(f"| {name} | {old:.1f} | {new:.1f} | {statistics.median(ratios):.3f} | {listed} |")


class Side:
    """A process that runs one version."""

    def __init__(self, source: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": str(source.resolve()), "OMP_WAIT_POLICY": "passive"}
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("_one_version.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def ask(self, setting: dict[str, object]) -> None:
        """Build and warm up."""
        self._say(json.dumps(setting))

    def time(self) -> float:
        """Seconds of one pass."""
        return float(self._say("time"))

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def _say(self, text: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(text, file=self.process.stdin, flush=True)
        return self.process.stdout.readline()


if __name__ == "__main__":
    main()
