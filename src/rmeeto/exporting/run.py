"""export: a model becomes a folder, and the folder is checked."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Protocol

from rmeeto.data import Preparation
from rmeeto.errors import ConfigError, UnknownName
from rmeeto.exporting.conditions import check_model, check_reduction
from rmeeto.exporting.folder import PARITY, README, free_folder, whole_or_nothing, write_common
from rmeeto.exporting.gate import Expected, compare, expect
from rmeeto.exporting.inputs import gate_inputs
from rmeeto.exporting.native_format import NativeFormat
from rmeeto.exporting.onnx_format import OnnxFormat
from rmeeto.exporting.parity import Parity, ParityError, joined
from rmeeto.exporting.pt2_format import Pt2Format
from rmeeto.exporting.readme import readme
from rmeeto.exporting.runners import Runner
from rmeeto.exporting.trace import Batch
from rmeeto.files.durable import write_text
from rmeeto.models.layers.freezing import thaw
from rmeeto.models.reducible import ReducibleModel
from rmeeto.runtime.progress import SILENT, Progress


class Format(Protocol):
    """One format.

    packages: whose versions the report names. needs: what ``run.py`` imports. runs: a sentence on what it runs.
    map_text: how to get the source map, if it was asked for. any_batch: whether the number of inputs is always free.
    """

    name: str
    packages: tuple[str, ...]
    needs: tuple[str, ...]
    runs: str
    map_text: str
    any_batch: bool

    def check(self, model: ReducibleModel, precision: str) -> None:
        """Raise :class:`ConfigError` for a model or precision that the format cannot have, or a missing package."""
        ...

    def write(self, model: ReducibleModel, folder: Path, *, batch: Batch, maps: bool) -> Sequence[Runner]:
        """Make the folder and write the model and its ``run.py`` into it; what runs it."""
        ...


FORMATS: dict[str, Format] = {one.name: one for one in (OnnxFormat(), Pt2Format(), NativeFormat())}


@dataclass(frozen=True)
class Exported:
    """A folder that has passed its check. parity: the report, also in its ``parity.json``."""

    folder: Path
    parity: Parity


def export(
    model: ReducibleModel,
    output: str | Path,
    *,
    format: str = "onnx",  # the word of the command line
    batch: int | None = 1,
    maps: bool = False,
    precision: str = "float32",
    check: str | Path | None = None,
    count: int | None = None,
    name: str | None = None,
    labels: Sequence[str] | None = None,
    progress: Progress = SILENT,
) -> Exported:
    """Write a model, with the reduction it has, for another runtime, and check that it computes the same there.

    Args:
        model: a Vision Mamba of images or clips, or a reduced Vision Transformer. It stays as it is.
        output: a new or empty folder. It gets the model, ``run.py`` (which needs NumPy, Pillow and the runtime),
            ``labels.json``, ``preprocess.json``, ``parity.json`` and a README.
        format: ``onnx``, ``pt2`` (torch.export), or ``native`` (the C library of this package).
        batch: inputs at a time, or None to leave that to the runtime, as ``native`` always does.
        maps: give the source map as a second output, int64 ``(b, l0)``: the output token that holds each token that
            entered, -1 where it was dropped.
        precision: ``float32``.
        check: a folder with real images, or clips, for the check; by default digits that come with scikit-learn.
        count: how many of them.
        name: of the model, for the README.
        labels: names of the classes; by default the model's own.
        progress: told how far the float64 computation is.

    Raises:
        ConfigError: a model, reduction, format or folder that cannot be, or a missing package. Nothing is written.
        ParityError: the file does not compute what the model computes. The folder stays and ``parity.json`` says why.

    >>> rmeeto.export(rmeeto.create_model("vim_tiny", reduction="merge:r=5"), "vim-tiny-r5").parity.passed
    True
    """
    writer, folder = _format(format), free_folder(output)
    own = _prepared(model, writer, precision)
    parity = _export(own, writer, folder, batch, maps, _expected(own, check, count, progress), name, labels)
    if not parity.passed:
        raise ParityError.of(parity, str(folder))
    return Exported(folder, parity)


def export_all(
    model: ReducibleModel,
    output: str | Path,
    *,
    batch: int | None = 1,
    check: str | Path | None = None,
    count: int | None = None,
    name: str | None = None,
    labels: Sequence[str] | None = None,
    progress: Progress = SILENT,
) -> Parity:
    """Export to every format that can have the model, each into a folder of its name in ``output``.

    The report also has what did not pass, and why a format was left out.

    Raises:
        ConfigError: as :func:`export`, if no format can have the model.
    """
    folder, possible, refused = free_folder(output), dict[str, ReducibleModel](), dict[str, str]()
    for kind, writer in FORMATS.items():
        try:
            possible[kind] = _prepared(model, writer, "float32")
        except ConfigError as error:
            refused[kind], last = error.why, error
    if not possible:
        raise last
    expected = _expected(next(iter(possible.values())), check, count, progress)
    reports = [
        _export(own, FORMATS[kind], folder / kind, batch, False, expected, name, labels)
        for kind, own in possible.items()
    ]
    return joined(reports, refused)


def _format(name: str) -> Format:
    if name not in FORMATS:
        raise UnknownName("format", name, FORMATS)
    return FORMATS[name]


def _prepared(model: ReducibleModel, writer: Format, precision: str) -> ReducibleModel:
    """A copy in float32 on the processor, after all that can be refused has been."""
    check_model(model)
    check_reduction(model.reduction)
    Preparation.of(model)  # raises for inputs that no file can give
    own: ReducibleModel = thaw(copy.deepcopy(model)).eval().float().cpu()
    writer.check(own, precision)
    return own


def _expected(model: ReducibleModel, check: str | Path | None, count: int | None, progress: Progress) -> Expected:
    given = None if check is None else Path(check)
    return expect(model, gate_inputs(model, given, count), progress)


def _export(
    model: ReducibleModel,
    writer: Format,
    folder: Path,
    batch: Batch,
    maps: bool,
    expected: Expected,
    name: str | None,
    labels: Sequence[str] | None,
) -> Parity:
    batch = None if writer.any_batch else batch
    with whole_or_nothing(folder):
        runners = writer.write(model, folder, batch=batch, maps=maps)
        write_common(folder, model, batch=batch, labels=None if labels is None else [*labels])
        rows = [
            compare(runner, writer.name, expected, size, runner.file.stat().st_size / 1e6)
            for runner in runners
            for size in ((1, 3) if batch is None else (batch,))
        ]
        parity = Parity(
            model=name or type(model).__name__,
            reduction=str(model.reduction or "none"),
            rows=tuple(rows),
            frozen_ms=expected.frozen_ms,
            frozen_logit=expected.frozen_logit,
            versions=versions(writer.packages),
        )
        write_text(folder / PARITY, json.dumps(parity.to_dict(), indent=1) + "\n")
        write_text(
            folder / README,
            readme(
                *(parity, model, writer.name),
                batch=batch,
                map_text=writer.map_text if maps else "",
                needs=writer.needs,
                runs=writer.runs,
            ),
        )
    return parity


def versions(packages: Sequence[str]) -> dict[str, str]:
    """The versions of those packages that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
