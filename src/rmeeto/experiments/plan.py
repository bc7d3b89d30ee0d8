"""From a table and a scale to cells: what runs in each place of the table, or why nothing does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

import torch

from rmeeto.config import ModelConfig, Sizes, changed
from rmeeto.cost import Convention, count, stack_of
from rmeeto.errors import ConfigError, RmeetoError, UnknownName
from rmeeto.experiments.cell import Cell, Work
from rmeeto.experiments.definition import COUNTED, Column, Measure, Row, Table, Value
from rmeeto.experiments.predicted import minutes
from rmeeto.experiments.scale import FREE, Scale, StandIn, load_scale
from rmeeto.models.description import describe
from rmeeto.models.factory import create_model
from rmeeto.recipe import Recipe
from rmeeto.reduction import TokenMerge, parse_reduction

NONE = "none"
CONVENTIONS: tuple[Convention, Convention] = ("paper", "exact")
AMOUNTS = ("{amount}", "{ratio}", "{count}")
REPEATED = ("trained", "nats")  # the others would give the same again, or nearly
Options = tuple[tuple[str, Any], ...]
TEACHER = 4 / 3  # time with a teacher's forward pass beside a student's forward and backward ones
# What a column's measure asks for, whatever its training; each of them has cells of its own.
WORKS: Mapping[Measure, Work] = {"images_per_second": "speed", "nats": "nats", "pictures": "pictures"}


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

    data: the fingerprint of each of the scale's data sets. seeds: repetitions; None is the table's own number, or
    fewer if the scale has no time for them.
    """
    for row in table.rows:
        for column in table.columns:
            yield _place(row, column, scale, data, seeds or repetitions(table, scale))


def repetitions(table: Table, scale: Scale) -> int:
    """How often a table's re-trainings are repeated at a scale."""
    return min(table.seeds, scale.seeds.get(table.name, table.seeds))


def _place(row: Row, column: Column, scale: Scale, data: Mapping[str, str | None], seeds: int) -> Place:
    if column.measure in COUNTED:
        # operations and tokens are those of the paper's models at every scale
        line = reduction_line(row, load_scale("full"))
        return Place(row, column, line, counted=counted(row, column, line))
    if column.device is not None:
        return Place(row, column, NONE, missing="the figures are those of other devices")
    stand_in = scale.models.get(row.stand_in)
    if stand_in is None:
        return Place(row, column, NONE, missing=f"nothing stands for {row.stand_in} at {scale.name} scale")
    line = reduction_line(row, scale)
    if (refusal := refused(stand_in.model, frozen_options(stand_in), line)) is not None:
        return Place(row, column, line, missing=refusal)
    training = str(row.changes.get("training", column.training))
    work = WORKS.get(column.measure, "free" if training == FREE else "trained")
    if work in ("nats", "pictures") and scale.sizes(work) is None:
        return Place(row, column, line, missing=f"the scale {scale.name} has no sizes for {work}")
    if work == "nats" and scale.nats is not None and column.key not in scale.nats.estimators:
        raise UnknownName(f"estimator of the scale {scale.name}", column.key, scale.nats.estimators)
    cells = tuple(
        cell(row, work, training, scale, stand_in, line, seed, data[stand_in.data])
        for seed in range(seeds if work in REPEATED else 1)
    )
    return Place(row, column, line, cells, seconds=stand_in.seconds.get(work, 0.0) * _length(cells[0], scale))


def cell(
    row: Row, work: Work, training: str, scale: Scale, stand_in: StandIn, line: str, seed: int, data: str | None
) -> Cell:
    """The cell of one repetition."""
    base = scale.base_recipe(row.stand_in)
    recipe = None
    if work == "trained" or (work == "pictures" and training != FREE):
        changes = {name: value for name, value in row.changes.items() if name != "training"}
        recipe = scale.training_recipe(row.stand_in, training, seed, **changes)
        recipe = multiplied(recipe, row.times)
        if base is not None:
            recipe = recipe.changed(model_options={})  # they are in the base model's own folder
    return Cell(work, row.stand_in, base, stand_in.model, line, recipe, seed, data, scale.sizes(work))


def multiplied(recipe: Recipe, times: Mapping[str, float]) -> Recipe:
    """A recipe with some of its numbers multiplied; whole numbers, such as epochs, stay whole.

    Raises:
        UnknownName: a field that a recipe does not have.
    """
    known = {field.name for field in fields(recipe)}
    if unknown := times.keys() - known:
        raise UnknownName("recipe field", min(unknown), known)
    products = {name: (getattr(recipe, name), by) for name, by in times.items()}
    return recipe.changed(
        **{
            n: round(one * by) if isinstance(one, int) else float(f"{one * by:.6g}")
            for n, (one, by) in products.items()
        }
    )


def reduction_line(row: Row, scale: Scale) -> str:
    """The row's reduction at this scale, as it prints: options at their defaults are left out.

    Raises:
        UnknownName: a word in braces that is no label of the row.
    """
    template = row.small if scale.amount == "ratio" and row.small is not None else row.reduction
    known = scale.models.get(row.stand_in)
    r = row.r if row.r is not None else known.r if known is not None else None
    if r == 0:
        return NONE
    words: dict[str, Value] = {}
    if known is not None and r is not None:
        like = known.like or row.model
        ratio = f"{published_ratio(like, r):.4g}" if any(name in template for name in AMOUNTS) else ""
        by_ratio = scale.amount == "ratio"
        words = {"ratio": ratio, "amount": f"ratio={ratio}" if by_ratio or known.like else f"r={r}", "count": r}
        if by_ratio and "{count}" in template:
            words["count"] = nearest_count(known.model, frozen_options(known), ratio)
    words = {**row.coordinates, **words}
    try:
        return as_printed(template.format(**words))
    except KeyError as error:
        raise UnknownName(f"word of the reduction {template}", str(error.args[0]), words) from None


@cache
def as_printed(line: str) -> str:
    """A reduction's line as it prints itself."""
    return str(parse_reduction(line) or NONE)


@cache
def published_ratio(model: str, r: int) -> float:
    """The share of its tokens that one of the paper's models saves with r (Table 10), averaged over its blocks."""
    return TokenMerge(r=r).schedule(stack_of(describe(model).config)).ratio


@cache
def nearest_count(model: str, options: Options, ratio: str) -> int:
    """The constant r whose reduction ratio comes closest in a stand-in: some methods take no ratio."""
    stack = stack_of(sizes_of(model, options))
    return min(range(1, stack.tokens // 2), key=lambda r: abs(TokenMerge(r=r).schedule(stack).ratio - float(ratio)))


def frozen_options(stand_in: StandIn) -> Options:
    """The options of a stand-in as a value that can be looked up."""
    return tuple((name, tuple(value) if isinstance(value, list) else value) for name, value in stand_in.options.items())


@cache
def sizes_of(model: str, options: Options) -> Sizes:
    """The sizes of a model with options, as :func:`rmeeto.create_model` takes them."""
    config = describe(model).config
    if isinstance(config, ModelConfig):
        return changed(config, dict(options))
    with torch.device("meta"):  # a Transformer's options are timm's, and only timm knows what becomes of them
        return create_model(model, **dict(options)).config


@cache
def refused(model: str, options: Options, line: str) -> str | None:
    """Why a model cannot have a reduction; None if it can."""
    reduction = parse_reduction(line)
    try:
        if reduction is not None:
            reduction.schedule(stack_of(sizes_of(model, options)))
    except RmeetoError as error:
        return f"{error.asked}: {error.why}"
    return None


def counted(row: Row, column: Column, line: str) -> float:
    """Operations (G) or tokens of the paper's own model under this row's reduction. Nothing is run.

    The paper counts a model that is not reduced without the cost of merging (Table 2).
    """
    if column.measure == "predicted_minutes":
        return minutes(row)
    stand_in = load_scale("full").models.get(row.model)
    if stand_in is None:
        raise ConfigError(f"count {row.model}", why="it is none of the paper's models", fix="see scales/full.toml")
    convention: Convention = "exact" if column.measure == "gflops_exact" else "paper"
    cost = count(describe(stand_in.model).config, parse_reduction(line), convention=convention)
    figures = {
        "tokens": float(cost.schedule.tokens[-1]),
        "ratio": cost.schedule.ratio,
        "gflops_network": (cost.total - cost.terms.get("reduction", 0.0)) / 1e9,
    }
    return figures.get(column.measure, cost.total / 1e9)


def operations(place: Place, scale: Scale) -> tuple[float, float]:
    """Operations per image (G) of a place's model under its reduction, in the paper's and the exact convention."""
    stand_in = scale.models[place.row.stand_in]
    sizes, reduction = sizes_of(stand_in.model, frozen_options(stand_in)), parse_reduction(place.reduction)
    paper, exact = (count(sizes, reduction, convention=name).total / 1e9 for name in CONVENTIONS)
    return paper, exact


def _length(cell: Cell, scale: Scale) -> float:
    """How much longer a cell's training is than the model's ``minutes``, which the expected seconds are about."""
    own = cell.training
    if own is None:
        return 1.0
    usual = scale.training_recipe(cell.model, "minutes", cell.seed)
    length = own.epochs * own.subset / (usual.epochs * usual.subset)
    return length * (TEACHER if own.distill else 1.0)
