"""Runs that are killed (SIGKILL) at random moments and resumed, until they end: is every weight what it should be?

    python benchmarks/kills.py [--kills 50] [--processes 1 2] [--seed 0] [--each 5]

A run of the command line trains a toy network with everything that draws random numbers, and saves its state after
every step, so that a good part of the kills comes in the middle of a save. Each run is killed `--each` times and then
left alone; its final and its best weights are compared, bit for bit, with those of a run without kills. With two
processes (torchrun, gloo), half of the kills take all processes at once and half only one of the two. Prints one line a
kill and writes benchmarks/results/kills_SEED.json. Exits with 1 if a run was lost or ended with other weights.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from safetensors.torch import load_file

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

from toys import make_folder, toy_recipe  # noqa: E402

SETTINGS = {
    "batch_size": 4, "accumulate": 2, "epochs": 3, "ema_decay": 0.9, "mixup": 0.8, "cutmix": 1.0,
    "random_erasing": 0.3, "auto_augment": "rand-m9-mstd0.5-inc1", "drop_path_rate": 0.3,
    "reduction": "merge:r=3,grouping=random", "save_every_seconds": 0.0, "workers": 1,
}  # fmt: skip
LONGEST_SECONDS = 300


class Run:
    """The same command again and again, in one output folder."""

    def __init__(self, folder: Path, name: str, data: Path, processes: int) -> None:
        self.output = folder / name
        self.log = self.output / "log.jsonl"
        self.recipe = folder / f"{name}.toml"
        self.recipe.write_text(toy_recipe(data, self.output, **SETTINGS).to_toml())
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        command = ["-m", "rmeeto", "retrain", "--recipe", str(self.recipe), "--resume", "--json"]
        self.command = [sys.executable, *(launcher if processes > 1 else []), *command]

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def attempts(self) -> int:
        """The number of attempts that have written a line to the log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return text.count('"event": "start"') + text.count('"event": "resume"')

    def finish(self) -> str | None:
        """Let it run to its end; its output if that is an error."""
        process = self.start()
        try:
            output, _ = process.communicate(timeout=LONGEST_SECONDS)
        except subprocess.TimeoutExpired:
            kill_all(process.pid)
            return "it hung\n" + process.communicate()[0]
        return output if process.returncode else None

    def weights(self) -> dict[str, bytes]:
        found = {}
        for folder in (self.output, self.output / "best"):
            for name, value in load_file(folder / "model.safetensors").items():
                found[f"{folder.name}/{name}" if folder != self.output else name] = value.numpy().tobytes()
        return found


def kill(run: Run, seconds: float, draw: random.Random, processes: int) -> dict[str, object] | None:
    """Start the run and kill it within so many seconds of its training; None if it was quicker."""
    before, early, alone = run.attempts(), draw.random() < 0.1, processes > 1 and draw.random() < 0.5
    process = run.start()
    began = time.monotonic()
    while not early and run.attempts() == before:
        if process.poll() is not None or time.monotonic() - began > LONGEST_SECONDS:
            break
        time.sleep(0.01)
    delay = draw.uniform(0, seconds)
    time.sleep(delay)
    if process.poll() is not None:
        output = process.communicate()[0]
        return None if process.returncode == 0 else {"error": output}
    victim = draw.choice(workers_of(process.pid) or [process.pid]) if alone else None
    if victim is None:
        kill_all(process.pid)
    else:
        os.kill(victim, signal.SIGKILL)
    try:
        process.communicate(timeout=60)
        hung = False
    except subprocess.TimeoutExpired:
        hung = True
        kill_all(process.pid)
        process.communicate()
    leftovers = [path.name.split(".")[1] for path in run.output.rglob(".*.????????")]
    return {"seconds": round(delay, 2), "one_of_several": victim is not None, "hung": hung, "in_a_write": leftovers}


def kill_all(launcher: int) -> None:
    """Kill a launcher and the processes it has started, each of which leads a group of its own."""
    os.killpg(launcher, signal.SIGSTOP)  # it starts no other one meanwhile
    for group in [*workers_of(launcher), launcher]:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


def workers_of(launcher: int) -> list[int]:
    """The processes that torchrun has started."""
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    return [int(child) for child in children]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--each", type=int, default=5)
    arguments = parser.parse_args()
    draw, rows = random.Random(arguments.seed), []
    folder = Path(tempfile.mkdtemp(prefix="kills-"))
    data = make_folder(folder / "data", train=16, val=4)
    for processes in arguments.processes:
        whole = Run(folder, f"whole{processes}", data, processes)
        if (error := whole.finish()) is not None:
            raise SystemExit(error)
        records = [json.loads(line) for line in whole.log.read_text().splitlines()]
        seconds, expected = max(record.get("seconds", 0.0) for record in records), whole.weights()
        print(f"{processes} processes: {seconds:.1f} s without a kill", flush=True)
        left, number = arguments.kills // len(arguments.processes), 0
        while left > 0:
            number += 1
            run = Run(folder, f"run{processes}-{number}", data, processes)
            kills = []
            for _ in range(min(arguments.each, left)):
                if (found := kill(run, seconds, draw, processes)) is None:
                    break
                kills.append(found)
                print(f"  run {number}, kill {len(kills)}: {found}", flush=True)
            error = next((each["error"] for each in kills if "error" in each), None) or run.finish()
            same = error is None and run.weights() == expected
            rows.append({"processes": processes, "kills": kills, "error": error, "bit_for_bit": same})
            print(f"  run {number}: {'the same weights' if same else error or 'OTHER WEIGHTS'}", flush=True)
            left -= len(kills)
    shutil.rmtree(folder)
    summary = {
        str(processes): {
            "runs": sum(row["processes"] == processes for row in rows),
            "kills": sum(len(row["kills"]) for row in rows if row["processes"] == processes),
            "kills_in_a_write": sum(bool(kill.get("in_a_write")) for row in rows for kill in row["kills"]
                                    if row["processes"] == processes),
            "kills_of_one_process": sum(bool(kill.get("one_of_several")) for row in rows for kill in row["kills"]
                                        if row["processes"] == processes),
            "hung": sum(bool(kill.get("hung")) for row in rows for kill in row["kills"]
                        if row["processes"] == processes),
            "bit_for_bit": sum(row["bit_for_bit"] for row in rows if row["processes"] == processes),
            "lost": sum(row["error"] is not None for row in rows if row["processes"] == processes),
        }
        for processes in arguments.processes
    }  # fmt: skip
    print(json.dumps(summary, indent=2))
    output = HERE / "results" / f"kills_{arguments.seed}.json"
    output.write_text(json.dumps({"seed": arguments.seed, "summary": summary, "runs": rows}, indent=1) + "\n")
    return 0 if all(row["bit_for_bit"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
