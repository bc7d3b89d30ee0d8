"""``--format pt2``: programs of `torch.export`, one that calls rmeeto's kernels and one of plain operations."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from rmeeto.exporting import plain_torch
from rmeeto.exporting.conditions import check_precision
from rmeeto.exporting.folder import SOURCE_MAP_TEXT, made_folder, write_run
from rmeeto.exporting.runners import Runner, program
from rmeeto.exporting.trace import Batch, first_results, trace
from rmeeto.exporting.truth import reducing_blocks
from rmeeto.files.durable import write_bytes
from rmeeto.models.reducible import ReducibleModel

FILE, PLAIN = "model.pt2", "plain.pt2"


class Pt2Format:
    """PyTorch's own format."""

    name = "pt2"
    packages: tuple[str, ...] = ("torch",)
    needs: tuple[str, ...] = ("numpy", "pillow", "torch")
    runs = "`run.py` runs `plain.pt2`; with `--kernels` it runs `model.pt2` by the kernels of an installed rmeeto."
    map_text = SOURCE_MAP_TEXT
    any_batch = False

    def check(self, model: ReducibleModel, precision: str) -> None:
        """Raise :class:`ConfigError` for another precision than float32."""
        check_precision(self.name, precision)

    def write(self, model: ReducibleModel, folder: Path, *, batch: Batch, maps: bool) -> Sequence[Runner]:
        """Write both programs and their ``run.py``; what runs them."""
        from rmeeto.exporting.standalone import pt2_runtime

        traced, results = trace(model, batch).program, 2 if maps else 1
        made_folder(folder)
        blocks, found = reducing_blocks(model.schedule.counts), []
        for name, runtime, lower in ((FILE, "PyTorch with rmeeto", as_it_is), (PLAIN, "PyTorch alone", in_plain_torch)):
            whole = lower(traced)
            save(first_results(whole, results), folder / name)
            found.append(program(folder / name, whole, blocks, runtime))
        write_run(folder, pt2_runtime)
        return found


def save(shipped: torch.export.ExportedProgram, file: Path) -> None:
    """Write a program."""
    memory = io.BytesIO()
    torch.export.save(shipped, memory)
    write_bytes(file, memory.getvalue())


def as_it_is(traced: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """A program that calls our operations."""
    return traced


def in_plain_torch(traced: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """The same program with PyTorch's operations in the places of ours."""
    table: dict[Any, Any] = plain_torch.table()
    plain: torch.export.ExportedProgram = traced.run_decompositions(table)
    return plain
