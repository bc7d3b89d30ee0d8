"""``rmeeto eval``: accuracy and speed on labelled images or clips, unreduced and reduced."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from rmeeto.cli import console
from rmeeto.cli.model import build, fitting_reductions
from rmeeto.cli.options import (
    BatchOption,
    CropsOption,
    DataOption,
    DeviceOption,
    FrameStrideOption,
    ImplOption,
    JsonOption,
    ModelArgument,
    PrecisionOption,
    ReducesOption,
    SamplingOption,
    SegmentsOption,
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
        bool, typer.Option("--allow-missing", help="Leave out what is unreadable instead of refusing.")
    ] = False,
    sampling: SamplingOption = "sparse",
    frame_stride: FrameStrideOption = 4,
    segments: SegmentsOption = 1,
    crops: CropsOption = 1,
    impl: ImplOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Measure accuracy on validation images or clips, unreduced and with each reduction.

    Speeds are measured in turns at the end; rmeeto bench measures more closely.
    """
    if data is None:
        raise ConfigError(
            f"evaluate {model}", why="nothing says on which images", fix="--data DIR, a folder with val/CLASS/*.jpg"
        )

    from rmeeto.data import CLIPS, Preparation, Views, open_data
    from rmeeto.evaluation import evaluate as run
    from rmeeto.evaluation.scores import add_speeds, score, speeds_are_rough
    from rmeeto.models.description import describe
    from rmeeto.runtime.devices import find_device, find_precision

    described = describe(model)
    lines = reduce or ([described.reduction] if described.reduction else [])
    reductions = fitting_reductions(described, ["none", *lines])
    place = find_device(device)
    kind_of_numbers = find_precision(precision, place)
    source = open_data(data, "val")
    views = Views(sampling, frame_stride, segments, crops)
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
            views=views,
            progress=console.progress(),
            description=f"evaluating {name}",
        )
        scores.append(score(name, network, evaluation))
    rows = add_speeds(scores, reductions, network, source, batch, place, kind_of_numbers)
    kind = Preparation.of(network).kind
    looked = {"views": asdict(views)} if kind is CLIPS else {}
    rough = speeds_are_rough(rows, batch)
    if as_json:
        rows_as_values = [asdict(row) for row in rows]
        console.print_json(
            {"model": described.name, "data": data, **looked, "rows": rows_as_values, "rough_speeds": rough}
        )
    else:
        how = f", {views}" if looked else ""
        title = f"{described.name} on {rows[0].images} {kind.many} of {data}{how}"
        console.out().print(rows_table(rows, title))
        if rough:
            console.note("the speeds are rough: a pass of so small a model is short; rmeeto bench measures closely")
