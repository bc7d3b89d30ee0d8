"""How the benchmarks measure: correctness first, then rounds in which candidates take turns, on a named machine."""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypedDict

import torch

from rmeeto import keep_freed_memory
from rmeeto.ops.impl import cpp
from rmeeto.speed.timing import Stopwatch, take_turns

ROOT = Path(__file__).parents[1]
RESULTS = Path(os.environ.get("RMEETO_RESULTS", ROOT / "benchmarks/results"))
# What decides whether an operation is right; the Triton kernels' tests on the device itself.
TESTS = {
    name: [f"tests/ops/test_{name}.py"]
    for name in ("scan", "conv", "norm", "block", "nearest", "pairs", "layout", "merge", "merging")
}
TESTS["network"] = ["tests/ops/packed/test_network.py"]
TESTS["linear"] = ["tests/models/layers/test_linear.py"]
TESTS["scan"].append("tests/ops/test_bidirectional.py")
TESTS["block"].append("tests/ops/packed/test_block.py")
TESTS["triton"] = [*sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("tests/ops/test_triton*.py")), "-m", "gpu"]
GREEN = "RMEETO_GREEN"  # the operations whose tests a run of several benchmarks has just seen pass
CPU = torch.device("cpu")
PACKAGES = ("rmeeto", "triton", "mambapy", "mamba_ssm")


class Times(TypedDict):
    median_ms: float
    lower_quartile_ms: float
    upper_quartile_ms: float
    best_ms: float
    rounds: int
    warm_up: int


# ---- right first


def operations_of_a_model(device: torch.device) -> list[str]:
    """The operations that decide a whole model's result on a device."""
    return ["triton"] if device.type == "cuda" else [name for name in TESTS if name != "triton"]


def refuse_if_red(operations: Iterable[str]) -> None:
    """Exit if the correctness tests of one of these operations fail: the speed of wrong results means nothing."""
    known = os.environ.get(GREEN, "").split(",")
    for name in operations:
        if name not in known and (failure := test_failure(name)):
            sys.exit(f"the tests of {name} are red, so no speed is reported:\n{failure}")


def test_failure(operation: str) -> str | None:
    """The end of what pytest said about an operation, or None if its tests passed."""
    command = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", *TESTS[operation]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    return "\n".join((done.stdout + done.stderr).strip().splitlines()[-8:])


# ---- then fast

KEPT, RETURNED = "kept", "returned"


def compare(
    candidates: dict[str, Callable[[], object]],
    *,
    rounds: int,
    warm_up: int = 2,
    budget_seconds: float = math.inf,
    device: torch.device = CPU,
    freed_memory: str = KEPT,
) -> dict[str, Times]:
    """Time each candidate once a round, so that other load on the machine affects all of them alike.

    freed_memory: kept, as the command line does (measure memory elsewhere), or returned to the system, as in a process
        that sets nothing; peers, which allocate most, gain most by keeping it. Once kept, it stays kept.
    budget_seconds: begin no round after the fifth when this long has been spent.
    """
    if freed_memory == KEPT:
        keep_freed_memory()
    for run in candidates.values():
        for _ in range(warm_up):
            run()
    seconds = take_turns(
        list(candidates.values()),
        Stopwatch(device),
        rounds=rounds,
        budget_seconds=budget_seconds,
        tick=lambda: None,
    )
    named = zip(candidates, seconds, strict=True)
    return {name: summarise([1e3 * value for value in values], warm_up) for name, values in named}


def summarise(milliseconds: list[float], warm_up: int) -> Times:
    lower, median, upper = statistics.quantiles(milliseconds, n=4, method="inclusive")
    return Times(
        median_ms=round(median, 4),
        lower_quartile_ms=round(lower, 4),
        upper_quartile_ms=round(upper, 4),
        best_ms=round(min(milliseconds), 4),
        rounds=len(milliseconds),
        warm_up=warm_up,
    )


def ratio(times: dict[str, Times], of: str, to: str) -> float:
    """How many times longer the median of one candidate is than another's."""
    return round(times[of]["median_ms"] / times[to]["median_ms"], 2)


# ---- and said of which machine


def describe_machine(device: torch.device = CPU) -> dict[str, object]:
    """The machine and versions that the figures were measured with."""
    on_gpu = device.type == "cuda"
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "device": device.type,
        "processor": processor_name(),
        "threads": torch.get_num_threads(),
        "instruction_set": cpp.instruction_set() if cpp.absence() is None else None,
        "gpu": torch.cuda.get_device_name(device) if on_gpu else None,
        "cuda": torch.version.cuda if on_gpu else None,
        "python": platform.python_version(),
        "torch": torch.__version__,  # says what it was built for, too
        **{name: version(name) for name in PACKAGES},
    }


def version(package: str) -> str | None:
    """The version of a package; None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def processor_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def print_table(title: str, times: dict[str, Times], against: str) -> None:
    """Print medians and quartiles, and how many times faster ``against`` is than each row."""
    print(f"\n{title}")
    for name, row in times.items():
        quartiles = f"{row['lower_quartile_ms']:.2f} … {row['upper_quartile_ms']:.2f}"
        print(f"  {name:34}{row['median_ms']:10.2f} ms   ({quartiles:>19}){ratio(times, name, against):9.1f}×")


def save(name: str, content: dict[str, object], device: torch.device = CPU) -> None:
    """Write NAME.json (NAME_cuda.json of a GPU) among the results and print it on the last line, for programs."""
    RESULTS.mkdir(exist_ok=True, parents=True)
    content = {"benchmark": name, **describe_machine(device), **content}
    file = f"{name}_cuda.json" if device.type == "cuda" else f"{name}.json"
    (RESULTS / file).write_text(json.dumps(content, indent=2) + "\n")
    print(json.dumps(content))
