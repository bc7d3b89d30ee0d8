"""``rmeeto doctor``: what is installed, what is missing, what that costs and how to get it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer
from rich.markup import escape
from rich.table import Table

from rmeeto.cli import console, options

if TYPE_CHECKING:
    from rmeeto.models.inference.explanation import Explanation
    from rmeeto.runtime.doctor import Diagnosis, Kernel


def doctor(as_json: options.JsonOption = False) -> None:
    """Show versions, kernels and their self-check, and how to get what is missing.

    The exit code is 1 if a kernel computes wrong results.
    """
    from rmeeto.runtime.doctor import diagnose

    diagnosis, way = diagnose(), way_of_a_small_model()
    if as_json:
        console.print_json({**diagnosis.to_dict(), "way": asdict(way)})
    else:
        print_diagnosis(diagnosis)
        console.out().print("", f"a small frozen model goes this way: {escape(str(way))}")
    if not diagnosis.healthy:
        raise typer.Exit(1)


def way_of_a_small_model() -> Explanation:
    """Which way a frozen Vision Mamba goes on this machine's processor."""
    from rmeeto.config import ModelConfig
    from rmeeto.models.inference.explanation import explain
    from rmeeto.models.inference.freezing import freeze
    from rmeeto.models.vim.backbone import VisionMamba

    return explain(freeze(VisionMamba(ModelConfig(img_size=(32, 32), dim=32, depth=2))))


def print_diagnosis(diagnosis: Diagnosis) -> None:
    """One screen."""
    machine, out = diagnosis.machine, console.out()
    facts = Table.grid(padding=(0, 2, 0, 0))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column()
    facts.add_row("system", f"{machine.system}, Python {machine.python}")
    cores = f"{machine.cores} cores ({machine.threads} used by PyTorch)"
    facts.add_row("processor", f"{machine.processor}, {cores}, {machine.vector_instructions}")
    facts.add_row("accelerator", ", ".join(machine.accelerators) or "none")
    installed = [f"{name} {number}" for name, number in diagnosis.versions.items() if number is not None]
    facts.add_row("packages", escape(", ".join(installed)))
    out.print(facts, "")

    kernels = console.table(
        "kernels",
        "state",
        console.number("error against\nfloat64"),
        console.number("scan\nms"),
        console.number("against\nreference"),
    )
    for kernel in diagnosis.kernels:
        kernels.add_row(kernel.name, *kernel_cells(kernel))
    out.print(kernels, "")

    if not diagnosis.advice:
        out.print("[green]✓[/] nothing is missing")
    for advice in diagnosis.advice:
        lines = Table.grid(padding=(0, 1, 0, 0))
        lines.add_row("[yellow]•[/]", f"[bold]{escape(advice.missing)}[/]: {escape(advice.cost)}")
        lines.add_row("", f"[green]{escape(advice.remedy)}[/]")
        out.print(lines)


def kernel_cells(kernel: Kernel) -> tuple[str, str, str, str]:
    """State, error, latency and speed of one implementation."""
    if kernel.absence is not None:
        return f"[dim]absent: {escape(kernel.absence)}[/]", "", "", ""
    state = "[red]wrong[/]" if kernel.wrong else "[green]ready[/]"
    speed = "" if kernel.name == "reference" else f"{kernel.speedup:.0f}×"
    if kernel.instructions is not None:
        state += f" ({escape(kernel.instructions)})"
    return state, f"{kernel.error:.0e}", f"{kernel.latency_ms:.1f}", speed
