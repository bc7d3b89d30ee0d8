"""Peak memory of one forward pass: from the allocator of a GPU, or from a new process on a processor.

Every variant gets its own process, because a high water mark never falls and freed memory is kept: in one process a
variant would inherit the peak of the one before it. A child process imports PyTorch once and forks for each variant
before any thread runs.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from rmeeto.errors import RunError
from rmeeto.models.description import read_sizes
from rmeeto.models.factory import fresh_model
from rmeeto.models.inference.freezing import freeze
from rmeeto.models.reducible import ReducibleModel
from rmeeto.reduction import parse_reduction
from rmeeto.runtime.devices import ActualPrecision, autocast

STATUS = Path("/proc/self/status")  # getrusage would count what the parent process held
CHILD = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from rmeeto.speed.memory import answer; answer()"


def peak_memories_mib(
    variants: Sequence[ReducibleModel], batch: int, precision: ActualPrecision, device: torch.device
) -> list[float | None]:
    """MiB that each variant and one batch need, beyond a bare process or on the device; None if it cannot be measured.

    Raises:
        RunError: the measuring process died, most likely because memory ran out.
    """
    if device.type == "cuda":
        return [peak_on_gpu_mib(variant, batch, precision, device) for variant in variants]
    if device.type != "cpu" or not STATUS.exists():
        return [None] * len(variants)
    questions = [
        {
            "config": asdict(variant.config),
            "family": variant.config.family,
            "module": type(variant.config).__module__,  # adds its family when it is imported
            "reduction": str(variant.reduction or "none"),
            "impl": variant.impl,
            "batch": batch,
            "precision": precision,
            "threads": torch.get_num_threads(),
        }
        for variant in variants
    ]
    child = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CHILD, json.dumps(sys.path)],
        input=json.dumps(questions),
        capture_output=True,
        text=True,
        check=False,
    )
    peaks = child.stdout.split()
    if len(peaks) != len(variants):
        raise RunError(
            "measure peak memory",
            given=f"a forward pass of {batch} images in a process of its own",
            why=f"it ended without an answer: {(child.stderr.strip() or 'no message').splitlines()[-1]}",
            fix="use a smaller batch, or leave memory out (--no-memory)",
        )
    return [float(peak) for peak in peaks]


def peak_on_gpu_mib(variant: ReducibleModel, batch: int, precision: ActualPrecision, device: torch.device) -> float:
    """The allocator's high water mark."""
    torch.cuda.reset_peak_memory_stats(device)
    forward(variant, batch, precision, device)
    return torch.cuda.max_memory_allocated(device) / 2**20


def forward(model: ReducibleModel, batch: int, precision: ActualPrecision, device: torch.device) -> None:
    """Run one batch of noise."""
    images = torch.randn(batch, *model.config.input_size, device=device)
    with torch.inference_mode(), autocast(device, precision):
        model(images)


def answer() -> None:
    """Main function of the child: read questions from stdin and answer each from a fork."""
    for question in json.loads(sys.stdin.read()):
        fork = os.fork()
        if fork == 0:
            print(growth_mib(question), flush=True)
            os._exit(0)
        os.waitpid(fork, 0)


def growth_mib(question: dict[str, Any]) -> float:
    """Build the model and run it once; return how far resident memory rose."""
    torch.set_num_threads(question["threads"])
    before = resident_mib("VmRSS")
    importlib.import_module(question["module"])
    config = read_sizes(question["config"], question["family"])
    model = freeze(fresh_model(config, parse_reduction(question["reduction"]), question["impl"]))
    forward(model, question["batch"], question["precision"], torch.device("cpu"))
    return resident_mib("VmHWM") - before


def resident_mib(field: str) -> float:
    """From Linux's account of this process: VmRSS, resident now, or VmHWM, its high water mark."""
    lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines() if ":" in line)
    return float(lines[field].split()[0]) / 1024
