"""``rmeeto predict``: what is in these images or clips."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Column, Table

from rmeeto.cli import console, options
from rmeeto.cli.model import build, fitting_reductions, kind_of_files

if TYPE_CHECKING:
    from rmeeto.evaluation.prediction import Prediction

BAR_WIDTH = 20
UNREADABLE = 1


def predict(
    model: options.ModelArgument,
    files: options.FilesArgument,
    reduce: options.ReduceOption = None,
    weights: options.WeightsOption = None,
    top: Annotated[int, typer.Option(min=1, help="Classes to show per image.")] = 5,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Class names: one per line in the order of labels, or a JSON list."),
    ] = None,
    batch: options.BatchOption = 32,
    impl: options.ImplOption = "auto",
    as_json: options.JsonOption = False,
) -> None:
    """Name the likeliest classes of each image or clip.

    A file that cannot be read is named and left out, and the exit code is then 1.
    """
    from rmeeto.evaluation.prediction import find_files, read_class_names, saved_class_names
    from rmeeto.evaluation.prediction import predict as run
    from rmeeto.models.description import describe

    described = describe(model)
    saved = None if described.folder is None else saved_class_names(described.folder)
    names = saved if labels is None else read_class_names(labels)
    (reduction,) = fitting_reductions(described, [reduce]) if reduce is not None else [None]
    paths = find_files(files, kind_of_files(model))  # before weights are downloaded
    network = build(model, weights, impl=impl, reduction=reduction)
    predictions = list(run(network, paths, top=top, batch_size=batch, names=names, progress=console.progress()))
    if as_json:
        console.print_json({"model": model, "predictions": [prediction.to_dict() for prediction in predictions]})
    else:
        for prediction in predictions:
            if prediction.error is None:
                console.out().print(f"[bold]{escape(prediction.image)}[/]", guesses_table(prediction), "")
    unreadable = [prediction for prediction in predictions if prediction.error is not None]
    for prediction in unreadable:
        console.note(f"unreadable: {prediction.image}: {prediction.error}")
    if unreadable:
        raise typer.Exit(UNREADABLE)


def guesses_table(prediction: Prediction) -> Table:
    """The likeliest classes of one image, likeliest first: probability, a bar, and the class."""
    rows = Table.grid(
        Column(justify="right", width=8),
        Column(width=BAR_WIDTH, style="cyan"),
        Column(no_wrap=True, overflow="ellipsis"),
        padding=(0, 2, 0, 0),
    )
    for guess in prediction.guesses:
        rows.add_row(f"{100 * guess.probability:.1f} %", "━" * round(BAR_WIDTH * guess.probability), escape(guess.name))
    return rows
