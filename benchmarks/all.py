"""Every benchmark of a device, each in a new process, and one table of the results.

    python benchmarks/all.py --device cpu|cuda [--quick] [--threads 2] [--minutes 20] [--results FOLDER]

The correctness tests of the operations run first; a benchmark of an operation whose tests fail is refused. If a
benchmark fails or takes too long, its name is printed and the others continue. After `--minutes` the running one is
stopped and no other is started. Results are JSON files in benchmarks/results. `--quick` tries everything at tiny sizes
and writes to another folder. Exits with 1 unless everything was measured. Let nothing else run meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from _summary import HEADLINES
from _timing import GREEN, RESULTS, operations_of_a_model, test_failure

HERE = Path(__file__).parent
WRITTEN = "written: "  # how gpu_check.py names its results


@dataclass(frozen=True)
class Job:
    """One run of a benchmark. full, quick: its arguments. operations: whose tests must be green."""

    script: str
    full: str
    quick: str
    operations: tuple[str, ...]
    limit_minutes: float

    def command(self, quick: bool) -> list[str]:
        return [sys.executable, str(HERE / f"{self.script}.py"), *shlex.split(self.quick if quick else self.full)]


@dataclass(frozen=True)
class Outcome:
    """result: the JSON that the benchmark printed. problem: why there is none."""

    job: Job
    result: dict[str, Any] | None
    problem: str | None
    seconds: float


def jobs_of(device: torch.device, threads: int, plot: Path) -> list[Job]:
    model = tuple(operations_of_a_model(device))
    common = f"--threads {threads}"
    small_growth = f"--frames 1 2 --batches 1 2 --widths 48 96 --rates 0 11 --depth 4 --plot {shlex.quote(str(plot))}"
    small_step = "--image 64 --batch 2 --losses 3"
    if device.type == "cpu":
        return [
            Job("scan", common, f"{common} --shape 2,65,64,16 --rounds 5", ("scan",), 3),
            Job("conv", common, f"{common} --shape 2,65,64,4 --rounds 5", ("conv",), 2),
            Job("reduction", common, f"{common} --frames 2 4 --rounds 5", ("nearest", "pairs", "merge"), 4),
            Job(
                "model",
                f"{common} --precisions float32 bfloat16 --seconds 15",
                f"{common} --models vim_digits --batches 2 --rates 2 --rounds 5 --seconds 2",
                model,
                6,
            ),
            Job("training", common, f"{common} {small_step} --model vim_digits --image 16", model, 7),
            Job("growth", common, f"{common} {small_growth}", model, 5),
            Job(
                "busy",
                common,
                f"{common} --model vim_digits --neighbours 1 --rounds 2 --passes 2 --no-peers",
                model,
                5,
            ),
        ]
    cuda = f"{common} --device cuda"
    return [
        Job("gpu_check", "", "--repeats 5", (), 4),  # checks correctness itself
        Job("scan", f"{cuda} --shape 128,197,768,16", f"{cuda} --shape 2,65,64,16 --rounds 5", model, 3),
        *(
            Job(
                "model",
                f"{cuda} --batches {batches} --precisions {precisions} --seconds 15 --running {running}",
                f"{cuda} --models vim_digits --batches 2 --rates 2 --rounds 5 --seconds 2 --running {running}",
                model,
                4,
            )
            for running, batches, precisions in (
                ("eager", "128", "float32 bfloat16"),
                ("recorded", "1 128", "bfloat16"),
            )
        ),
        Job("training", cuda, f"{cuda} {small_step}", model, 4),
        *(
            Job(
                "training",
                f"{cuda} --model {name} --reduction merge:r={r} --batch 128 --precision bfloat16 --only kernels",
                f"{cuda} {small_step} --model {name} --precision bfloat16 --only kernels",
                model,
                2,
            )
            for name, r in (("vim_tiny", 5), ("vim_small", 11), ("vim_base", 11))
        ),
        Job("growth", cuda, f"{cuda} {small_growth}", model, 4),
    ]


def run(job: Job, quick: bool, environment: dict[str, str], end: float) -> Outcome:
    """Run a benchmark to its end or its time limit, print its output, and read its results."""
    start = time.monotonic()
    limit = min(60 * job.limit_minutes, end - start)
    if limit <= 0:
        return Outcome(job, None, "no time was left for it", 0.0)
    process = subprocess.Popen(
        job.command(quick),
        cwd=HERE.parent,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # so that the processes it started end with it
    )
    try:
        output, late = process.communicate(timeout=limit)[0], False
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, late = process.communicate()[0], True
    seconds = time.monotonic() - start
    *said, last = output.strip().splitlines() or [""]
    result = None if late or process.returncode else read_result(last)
    print(*said, *([] if result else [last]), sep="\n", flush=True)
    if late:
        return Outcome(job, None, f"it was stopped after {limit:.0f} s", seconds)
    if result is None:
        why = f"it ended with {process.returncode}: {last}" if process.returncode else "it printed no result"
        return Outcome(job, None, why, seconds)
    return Outcome(job, result, None, seconds)


def read_result(last_line: str) -> dict[str, Any] | None:
    """The results in the last line of a benchmark's output, or in the file that the line names."""
    text = Path(last_line.removeprefix(WRITTEN)).read_text() if last_line.startswith(WRITTEN) else last_line
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return None


def print_summary(outcomes: list[Outcome]) -> None:
    rows = [
        (outcome.job.script, what, figure)
        for outcome in outcomes
        for what, figure in (
            HEADLINES[outcome.job.script](outcome.result)
            if outcome.result
            else [("NOT MEASURED", outcome.problem or "")]
        )
    ]
    script_width, what_width = (max(len(row[column]) for row in rows) for column in (0, 1))
    print("\nsummary")
    for script, what, figure in rows:
        print(f"  {script:{script_width}}  {what:{what_width}}  {figure}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, results in a folder of their own")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--results", type=Path, help="default: benchmarks/results")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device on this machine")
    end = time.monotonic() + 60 * options.minutes
    results = options.results or (Path(tempfile.mkdtemp(prefix="rmeeto-quick-")) if options.quick else RESULTS)
    jobs = jobs_of(torch.device(options.device), options.threads, results / "growth.svg")

    red = {}
    for operation in dict.fromkeys(name for job in jobs for name in job.operations):
        red[operation] = test_failure(operation)
        print(f"tests of {operation}: {'RED' if red[operation] else 'green'}", flush=True)
        if red[operation]:
            print(red[operation], flush=True)
    green = [name for name, failure in red.items() if failure is None]
    environment = os.environ | {GREEN: ",".join(green), "RMEETO_RESULTS": str(results)}
    outcomes = []
    for job in jobs:
        print(f"\n== {shlex.join(job.command(options.quick)[1:])}", flush=True)
        if missing := [name for name in job.operations if name not in green]:
            outcomes.append(Outcome(job, None, f"refused: the tests of {', '.join(missing)} are red", 0.0))
            continue
        outcomes.append(run(job, options.quick, environment, end))
        print(f"({outcomes[-1].seconds:.0f} s)", flush=True)
    print_summary(outcomes)
    print(f"\nresults in {results}")
    return 1 if any(outcome.problem for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
