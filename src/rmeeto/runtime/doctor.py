"""Diagnosis of an installation: versions, the machine, which kernels run and whether they are right, what is missing.

It answers "why is it slow" and fills bug reports; no other part of rmeeto depends on it.
"""

from __future__ import annotations

import importlib.metadata
import math
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rmeeto import __version__
from rmeeto.ops import selective_scan
from rmeeto.ops.select import KERNELS, availability
from rmeeto.ops.without_kernels import SLOWDOWN

REQUIRED = ("torch", "torchvision", "timm", "accelerate", "safetensors", "huggingface_hub", "pillow")
SHAPE = (2, 197, 96, 16)  # images, tokens, channels, states: a second of work for the slow reference
ERROR_BUDGET = 1e-5  # float32 rounding over 197 steps is fifty times smaller


@dataclass(frozen=True)
class Extra:
    """An optional package: what works only with it, and how to get it."""

    package: str
    purpose: str
    extra: str


EXTRAS = (
    Extra("triton", "fast kernels on NVIDIA and AMD graphics cards", "gpu"),
    Extra("scikit-learn", "rmeeto demo, and --data digits", "demo"),
    Extra("av", "reading video", "video"),
)


@dataclass(frozen=True)
class Machine:
    """The machine, as far as a benchmark depends on it.

    cores: that this process may use. threads: that PyTorch uses. vector_instructions: widest set PyTorch found.
    """

    system: str
    python: str
    processor: str
    cores: int
    threads: int
    vector_instructions: str
    accelerators: tuple[str, ...]


@dataclass(frozen=True)
class Kernel:
    """One implementation of the operations.

    absence: why it cannot run here, None if it can. instructions: the instruction set, if it has a choice.
    error: largest deviation of a scan from float64, over the largest value. latency_ms: of that scan.
    speedup: over the reference.
    """

    name: str
    absence: str | None
    instructions: str | None = None
    error: float | None = None
    latency_ms: float | None = None
    speedup: float | None = None

    @property
    def wrong(self) -> bool:
        """Whether it ran and its results were wrong."""
        return self.error is not None and not self.error < ERROR_BUDGET


@dataclass(frozen=True)
class Advice:
    """Something missing: what it costs to do without, and how to get it."""

    missing: str
    cost: str
    remedy: str


@dataclass(frozen=True)
class Diagnosis:
    """All findings. versions: by package; None for packages that are not installed."""

    versions: dict[str, str | None]
    machine: Machine
    kernels: tuple[Kernel, ...]
    advice: tuple[Advice, ...]

    @property
    def healthy(self) -> bool:
        """Whether every kernel that runs is right. A missing one is slow, not wrong."""
        return not any(kernel.wrong for kernel in self.kernels)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"healthy": self.healthy, **asdict(self)}


def diagnose(clock: Callable[[], float] = time.perf_counter) -> Diagnosis:
    """Collect versions and machine, and check every kernel that is ready against the reference in float64."""
    packages = (*REQUIRED, *(extra.package for extra in EXTRAS))
    versions = {"rmeeto": __version__, **{name: version(name) for name in packages}}
    kernels = check_kernels(availability(), clock)
    return Diagnosis(versions, machine(), kernels, (*kernel_advice(kernels), *package_advice(versions)))


def version(package: str) -> str | None:
    """The installed version, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def machine() -> Machine:
    """The machine this process runs on."""
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return Machine(
        system=f"{platform.system()} {platform.release()} ({platform.machine()})",
        python=platform.python_version(),
        processor=processor_name(),
        cores=len(usable),
        threads=torch.get_num_threads(),
        vector_instructions=torch.backends.cpu.get_cpu_capability(),
        accelerators=tuple(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())),
    )


def processor_name() -> str:
    """Its name from /proc/cpuinfo; ``platform.processor()`` is empty on many Linux systems."""
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text().splitlines() if listing.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def check_kernels(available: dict[str, str], clock: Callable[[], float]) -> tuple[Kernel, ...]:
    """Run one scan with every implementation that is ready, on the device it is for."""
    reference_ms: dict[str, float] = {}
    kernels = []
    for name, state in available.items():
        if state != "ready":
            kernels.append(Kernel(name, absence=state))
            continue
        device = next((device for device, kernel in KERNELS.items() if kernel == name), "cpu")
        inputs = scan_inputs(device)
        if device not in reference_ms:
            reference_ms[device] = measure(inputs, "reference", clock)[1]
        error, latency_ms = measure(inputs, name, clock)
        kernels.append(Kernel(name, None, instructions_of(name), error, latency_ms, reference_ms[device] / latency_ms))
    return tuple(kernels)


def instructions_of(name: str) -> str | None:
    """The instruction set that the C++ library chose; None for other implementations, which have no choice."""
    if name != "cpp":
        return None
    from rmeeto.ops.impl import cpp

    return cpp.instruction_set()


def scan_inputs(device: str) -> dict[str, Tensor]:
    """A scan as a Vim block runs it, in float64: realistic decays (1 to n) and steps (0.001 to 0.1)."""
    batch, length, channels, states = SHAPE
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(device)

    return {
        "u": normal(batch, length, channels),
        "delta": normal(batch, length, channels) - 4,
        "A": -torch.arange(1, states + 1, dtype=torch.float64, device=device).repeat(channels, 1),
        "B": normal(batch, length, states),
        "C": normal(batch, length, states),
        "skip": normal(channels),
        "gate": normal(batch, length, channels),
    }


def measure(inputs: dict[str, Tensor], impl: str, clock: Callable[[], float]) -> tuple[float, float]:
    """One implementation's error against float64 and its best of three latencies in ms, both for float32."""
    truth = selective_scan(**inputs, delta_softplus=True, impl="reference")  # type: ignore[arg-type]
    single = {name: value.float() for name, value in inputs.items()}
    times = []
    for _ in range(3):
        start = clock()
        result = selective_scan(**single, delta_softplus=True, impl=impl)  # type: ignore[arg-type]
        deviation = (result.double() - truth).abs().max() / truth.abs().max()
        error = float(deviation)  # waits for the device
        times.append(clock() - start)
    return (error if math.isfinite(error) else math.inf), 1e3 * min(times)


def kernel_advice(kernels: tuple[Kernel, ...]) -> list[Advice]:
    """Kernels that this machine could use and that are absent or wrong."""
    useful = {KERNELS[device] for device in ("cpu", *(["cuda"] if torch.cuda.is_available() else []))}
    advice = [
        Advice(f"{kernel.name} kernels", f"scans run {SLOWDOWN} without them", REMEDIES[kernel.name])
        for kernel in kernels
        if kernel.absence is not None and kernel.name in useful
    ]
    return advice + [
        Advice(
            f"right results from {kernel.name}",
            f"its error is {kernel.error:.1e}, {ERROR_BUDGET:.0e} is allowed",
            "use --impl reference, and report this output",
        )
        for kernel in kernels
        if kernel.wrong
    ]


REMEDIES = {
    "cpp": "install a C++ compiler (g++ or clang++), then install rmeeto again",
    "triton": 'pip install "rmeeto[gpu]"',
}


def package_advice(versions: dict[str, str | None]) -> list[Advice]:
    """Optional packages that are not installed; Triton only where there is a device for it."""
    return [
        Advice(extra.package, f"needed for {extra.purpose}", f'pip install "rmeeto[{extra.extra}]"')
        for extra in EXTRAS
        if versions[extra.package] is None and (extra.extra != "gpu" or torch.cuda.is_available())
    ]
