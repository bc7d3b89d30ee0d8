"""``rmeeto eval``: accuracy and speed on labelled images, unreduced and reduced."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from rmeeto.cli import console
from rmeeto.cli.model import build
from rmeeto.cli.options import (
    BatchOption,
    DataOption,
    DeviceOption,
    ImplOption,
    JsonOption,
    ModelArgument,
    PrecisionOption,
    ReducesOption,
    WeightsOption,
    WorkersOption,
)
from rmeeto.cli.rows import rows_table
from rmeeto.errors import ConfigError


def evaluate(
    model: ModelArgument,
    data: DataOption = None,
    reduce: ReducesOption = None,
    weights: WeightsOption = None,
    batch: BatchOption = 128,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "float32",
    workers: WorkersOption = 2,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Leave unreadable images out instead of refusing.")
    ] = False,
    impl: ImplOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Measure accuracy on validation images, unreduced and with each reduction.

    Speeds are measured side by side at the end; rmeeto bench looks closer.
    """
    if data is None:
        raise ConfigError(
            f"evaluate {model}", why="nothing says on which images", fix="--data DIR, a folder with val/CLASS/*.jpg"
        )

    from rmeeto.data import open_data
    from rmeeto.devices import find_device, find_precision
    from rmeeto.evaluate import evaluate as run
    from rmeeto.models.description import describe
    from rmeeto.reduction import parse_reduction
    from rmeeto.table import add_speeds, score

    described = describe(model)
    lines = reduce or ([described.reduction] if described.reduction else [])
    reductions = list(dict.fromkeys([None, *map(parse_reduction, lines)]))
    place = find_device(device)
    source = open_data(data, "val")
    network = build(model, weights, impl=impl)
    scores = []
    for reduction in reductions:
        network.reduction = reduction
        name = str(reduction or "unreduced")
        evaluation = run(
            network,
            source,
            batch_size=batch,
            device=place,
            precision=precision,
            workers=workers,
            allow_missing=allow_missing,
            progress=console.progress(),
            description=f"evaluating {name}",
        )
        scores.append(score(name, network, evaluation))
    rows = add_speeds(scores, reductions, network, batch, place, find_precision(precision, place))
    if as_json:
        result = {"model": described.name, "data": data, "rows": [asdict(row) for row in rows]}
        console.print_json(result)
    else:
        console.out().print(rows_table(rows, f"{described.name} on {rows[0].images} images of {data}"))
