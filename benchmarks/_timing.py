"""How the benchmarks measure: warm-up, rounds in which every candidate has its turn, median and quartiles."""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypedDict

import torch

from rmeeto.ops.impl import cpp

RESULTS = Path(__file__).parent / "results"


class Times(TypedDict):
    median_ms: float
    lower_quartile_ms: float
    upper_quartile_ms: float
    best_ms: float
    rounds: int


def compare(candidates: dict[str, Callable[[], object]], *, rounds: int, warm_up: int = 2) -> dict[str, Times]:
    """Time each candidate once a round, so that whatever else the machine does meets all of them alike."""
    for run in candidates.values():
        for _ in range(warm_up):
            run()
    milliseconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, run in candidates.items():
            start = time.perf_counter()
            run()
            milliseconds[name].append((time.perf_counter() - start) * 1e3)
    return {name: summarise(values) for name, values in milliseconds.items()}


def summarise(milliseconds: list[float]) -> Times:
    lower, median, upper = statistics.quantiles(milliseconds, n=4, method="inclusive")
    return Times(
        median_ms=round(median, 4),
        lower_quartile_ms=round(lower, 4),
        upper_quartile_ms=round(upper, 4),
        best_ms=round(min(milliseconds), 4),
        rounds=len(milliseconds),
    )


def describe_machine() -> dict[str, object]:
    """Say what the figures were measured on; without it they mean nothing."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": processor_name(),
        "threads": torch.get_num_threads(),
        "instruction_set": cpp.instruction_set() if cpp.absence() is None else None,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


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
        ratio = row["median_ms"] / times[against]["median_ms"]
        quartiles = f"{row['lower_quartile_ms']:.2f} … {row['upper_quartile_ms']:.2f}"
        print(f"  {name:34}{row['median_ms']:10.2f} ms   ({quartiles:>19}){ratio:9.1f}×")


def save(name: str, content: dict[str, object]) -> None:
    """Write benchmarks/results/NAME.json and print it on the last line, for programs."""
    RESULTS.mkdir(exist_ok=True)
    content = {"benchmark": name, **describe_machine(), **content}
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")
    print(json.dumps(content))
