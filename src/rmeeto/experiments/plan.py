"""From a table and a scale to cells: what runs in each place of the table, or why nothing does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from rmeeto.config import Sizes, changed
from rmeeto.cost import Convention, count, stack_of
from rmeeto.errors import ConfigError, RmeetoError
from rmeeto.experiments.cell import Cell, Work
from rmeeto.experiments.definition import COUNTED, Column, Row, Table, Value
from rmeeto.experiments.scale import FREE, Scale, StandIn, load_scale
from rmeeto.models.description import describe
from rmeeto.reduction import TokenMerge, parse_reduction

NONE = "none"
CONVENTIONS: tuple[Convention, Convention] = ("paper", "exact")
# Measured by commands of their own, in other units than accuracy on images.
ELSEWHERE = {
    "minutes": "rmeeto plan predicts it from measured throughput",
    "nats": "rmeeto.analysis estimates it",
    "pictures": "rmeeto show draws them",
}


@dataclass(frozen=True)
class Place:
    """One place of a table: a row and a column.

    reduction: the line that is used at this scale. cells: what has to be run, one per seed; none if the figure is
    counted or the place is not testable. counted: the figure, if it is counted. missing: why nothing can be run.
    seconds: expected for each cell.
    """

    row: Row
    column: Column
    reduction: str
    cells: tuple[Cell, ...] = ()
    counted: float | None = None
    missing: str | None = None
    seconds: float = 0.0

    @property
    def coordinates(self) -> Mapping[str, Value]:
        """The row's coordinates and the column's name."""
        return {**self.row.coordinates, "column": self.column.key}


def places(table: Table, scale: Scale, data: Mapping[str, str | None], seeds: int | None = None) -> Iterator[Place]:
    """Every place of a table at a scale, row by row.

    data: the fingerprint of each of the scale's data sets. seeds: repetitions; None is the table's own number.
    """
    for row in table.rows:
        for column in table.columns:
            yield _place(row, column, scale, data, table.seeds if seeds is None else seeds)


def _place(row: Row, column: Column, scale: Scale, data: Mapping[str, str | None], seeds: int) -> Place:
    if column.measure in COUNTED:
        # operations and tokens are those of the paper's models at every scale
        line = reduction_line(row, load_scale("full"))
        return Place(row, column, line, counted=counted(row, column, line))
    if column.measure in ELSEWHERE:
        return Place(row, column, NONE, missing=ELSEWHERE[column.measure])
    stand_in = scale.models.get(row.model)
    if stand_in is None:
        return Place(row, column, NONE, missing=f"nothing stands for {row.model} at {scale.name} scale")
    line = reduction_line(row, scale)
    try:
        check_reduction(stand_in, line)
    except RmeetoError as error:
        return Place(row, column, line, missing=f"{error.asked}: {error.why}")
    speed = column.measure == "images_per_second"
    training = str(row.changes.get("training", column.training))
    work: Work = "speed" if speed else "free" if training == FREE else "trained"
    cells = tuple(
        cell(row, work, training, scale, stand_in, line, seed, data[stand_in.data])
        for seed in range(1 if speed or (scale.base is None and work == "free") else seeds)
    )
    return Place(
        row, column, line, cells, seconds=stand_in.seconds.get(work, 0.0) * _epochs(row, work, training, scale)
    )


def cell(
    row: Row, work: Work, training: str, scale: Scale, stand_in: StandIn, line: str, seed: int, data: str | None
) -> Cell:
    """The cell of one repetition."""
    changes = {name: value for name, value in row.changes.items() if name != "training"}
    recipe = scale.training_recipe(row.model, training, seed, **changes) if work == "trained" else None
    base = scale.base_recipe(row.model, seed)
    if recipe is not None and base is not None:
        recipe = recipe.changed(model_options={})  # they are in the base model's own folder
    return Cell(work, row.model, base, stand_in.model, line, recipe, seed, data)


def reduction_line(row: Row, scale: Scale) -> str:
    """The row's reduction with its amount at this scale: ``r=5``, or the ratio that it saves in the paper's model."""
    known = scale.models.get(row.model)
    r = row.r if row.r is not None else known.r if known is not None else None
    if r == 0:
        return NONE
    amount = ""
    if "{amount}" in row.reduction:
        if r is None or known is None:
            return NONE
        like = known.like or (row.model if scale.amount == "ratio" else None)
        amount = f"r={r}" if like is None else f"ratio={published_ratio(like, r):.4g}"
    return row.reduction.format(amount=amount, **row.coordinates)


@cache
def published_ratio(model: str, r: int) -> float:
    """The share of its tokens that one of the paper's models saves with r (Table 10), averaged over its blocks."""
    return TokenMerge(r=r).schedule(stack_of(describe(model).config)).ratio


@cache
def sizes_of(model: str, options: tuple[tuple[str, Any], ...]) -> Sizes:
    """The sizes of a stand-in."""
    return changed(describe(model).config, dict(options))


def check_reduction(stand_in: StandIn, line: str) -> None:
    """Raise the error that a stand-in gives to a reduction that it cannot have."""
    reduction = parse_reduction(line)
    if reduction is not None:
        reduction.schedule(stack_of(sizes_of(stand_in.model, frozen_options(stand_in))))


def frozen_options(stand_in: StandIn) -> tuple[tuple[str, Any], ...]:
    """The options of a stand-in as a value that can be looked up."""
    return tuple((name, tuple(value) if isinstance(value, list) else value) for name, value in stand_in.options.items())


def counted(row: Row, column: Column, line: str) -> float:
    """Operations (G) or tokens of the paper's own model under this row's reduction. Nothing is run.

    The paper counts a model that is not reduced without the cost of merging (Table 2).
    """
    stand_in = load_scale("full").models.get(row.model)
    if stand_in is None:
        raise ConfigError(f"count {row.model}", why="it is none of the paper's models", fix="see scales/full.toml")
    convention: Convention = "exact" if column.measure == "gflops_exact" else "paper"
    cost = count(describe(stand_in.model).config, parse_reduction(line), convention=convention)
    figures = {"tokens": float(cost.schedule.tokens[-1]), "ratio": cost.schedule.ratio}
    return figures.get(column.measure, cost.total / 1e9)


def operations(place: Place, scale: Scale) -> tuple[float, float]:
    """Operations per image (G) of a place's model under its reduction, in the paper's and the exact convention."""
    stand_in = scale.models[place.row.model]
    sizes, reduction = sizes_of(stand_in.model, frozen_options(stand_in)), parse_reduction(place.reduction)
    paper, exact = (count(sizes, reduction, convention=name).total / 1e9 for name in CONVENTIONS)
    return paper, exact


def _epochs(row: Row, work: Work, training: str, scale: Scale) -> float:
    """How much longer the row's training is than the scale's ``minutes``, which the expected seconds are about."""
    if work != "trained":
        return 1.0
    usual = {"epochs": 3, "subset": 1.0, **scale.trainings["minutes"]}
    own = {**usual, **scale.trainings[training], **row.changes}
    return float(own["epochs"] * own["subset"] / (usual["epochs"] * usual["subset"]))
