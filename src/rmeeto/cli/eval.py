"""``rmeeto eval``: accuracy and speed on labelled images, unreduced and reduced."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from rmeeto.cli import console
from rmeeto.cli.model import build, describe
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

if TYPE_CHECKING:
    from rmeeto.evaluate import Evaluation
    from rmeeto.models.backbone import VisionMamba
    from rmeeto.results import Row


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

    Speed is that of this run, one variant after the other; rmeeto bench compares more carefully.
    """
    if data is None:
        raise ConfigError(
            f"evaluate {model}", why="nothing says on which images", fix="--data DIR, a folder with val/CLASS/*.jpg"
        )
    described = describe(model)
    lines = reduce or ([described.reduction] if described.reduction else [])

    from rmeeto.data import open_data
    from rmeeto.evaluate import evaluate as run
    from rmeeto.reduction import parse_reduction

    source = open_data(data, "val")
    reductions = dict.fromkeys([None, *map(parse_reduction, lines)])
    network = build(model, weights, impl=impl)
    rows: list[Row] = []
    for reduction in reductions:
        network.reduction = reduction
        name = str(reduction or "unreduced")
        scored = run(
            network,
            source,
            batch_size=batch,
            device=device,
            precision=precision,
            workers=workers,
            allow_missing=allow_missing,
            progress=console.progress(),
            description=f"evaluating {name}",
        )
        rows.append(row_of(network, name, scored, rows))
    if as_json:
        result = {"model": described.name, "data": data, "rows": [asdict(row) for row in rows]}
        console.print_json(result)
    else:
        console.out().print(rows_table(rows, f"{described.name} on {rows[0].images} images of {data}"))


def row_of(model: VisionMamba, name: str, scored: Evaluation, before: list[Row]) -> Row:
    """The result of one evaluation; the first of all is what speed is compared with."""
    from rmeeto.cost import flops
    from rmeeto.results import Row

    speed = scored.images_per_second
    return Row(
        name=name,
        top1_percent=scored.top1_percent,
        top5_percent=scored.top5_percent,
        loss=scored.loss,
        gflops_exact=flops(model, convention="exact").total / 1e9,
        gflops_paper=flops(model, convention="paper").total / 1e9,
        tokens=model.schedule.tokens[-1],
        reduction_ratio=model.schedule.ratio,
        images_per_second=speed,
        speedup=speed / before[0].images_per_second if before else 1.0,
        images=scored.images,
    )
