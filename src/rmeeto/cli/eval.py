"""``rmeeto eval``: accuracy and speed on labelled images or clips, unreduced and reduced."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from rmeeto.cli import console, options
from rmeeto.cli.model import build, fitting_reductions
from rmeeto.cli.rows import rows_table
from rmeeto.errors import ConfigError


def evaluate(
    model: options.ModelArgument,
    data: options.DataOption = None,
    reduce: options.ReducesOption = None,
    weights: options.WeightsOption = None,
    batch: options.BatchOption = 128,
    device: options.DeviceOption = "auto",
    precision: options.PrecisionOption = "float32",
    workers: options.WorkersOption = 2,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Leave out what is unreadable instead of refusing.")
    ] = False,
    sampling: options.SamplingOption = "sparse",
    frame_stride: options.FrameStrideOption = 4,
    segments: options.SegmentsOption = 1,
    crops: options.CropsOption = 1,
    impl: options.ImplOption = "auto",
    as_json: options.JsonOption = False,
) -> None:
    """Measure accuracy on validation images or clips, unreduced and with each reduction.

    Speeds are measured in turns at the end; rmeeto bench measures more closely.
    """
    if data is None:
        raise ConfigError(
            f"evaluate {model}", why="nothing says on which images", fix="--data DIR, a folder with val/CLASS/*.jpg"
        )

    from rmeeto.data import CLIPS, Preparation, Views, open_data
    from rmeeto.evaluation.scores import add_speeds, score_each, speeds_are_rough
    from rmeeto.models.description import describe
    from rmeeto.runtime.devices import find_device, find_precision

    described = describe(model)
    lines = reduce or ([described.reduction] if described.reduction else [])
    reductions = fitting_reductions(described, ["none", *lines])
    torch_device = find_device(device)
    actual_precision = find_precision(precision, torch_device)
    source = open_data(data, "val")
    views = Views(sampling, frame_stride, segments, crops)
    network = build(model, weights, impl=impl)
    scores = score_each(
        network,
        {str(reduction or "unreduced"): reduction for reduction in reductions},
        source,
        batch_size=batch,
        device=torch_device,
        precision=precision,
        workers=workers,
        allow_missing=allow_missing,
        views=views,
        progress=console.progress(),
    )
    rows = add_speeds(scores, reductions, network, source, batch, torch_device, actual_precision)
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
