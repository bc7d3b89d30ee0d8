"""A table or figure of the paper as data: which cells it has, what the paper prints in them, what it claims.

One TOML file beside this module holds one table or figure. docs/experiments.md describes the format.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_type_hints

from rmeeto.errors import ConfigError, UnknownName
from rmeeto.files.toml_values import checked

Value = str | int | float
Coordinates = Mapping[str, Value]
Measure = Literal[
    "top1",
    "gflops_paper",
    "gflops_network",
    "gflops_exact",
    "tokens",
    "ratio",
    "images_per_second",
    "minutes",
    "predicted_minutes",
    "nats",
    "pictures",
]
COUNTED: frozenset[Measure] = frozenset(
    {"gflops_paper", "gflops_network", "gflops_exact", "tokens", "ratio", "predicted_minutes"}
)
ClaimKind = Literal["better", "equal", "monotone", "ratio", "printed"]
MODEL, COLUMN = "model", "column"


@dataclass(frozen=True)
class Column:
    """One figure of every row.

    key: its name in the file. title: its heading. measure: what stands in it: ``top1`` (per cent), operations in one of
    the conventions of :mod:`rmeeto.cost` (G; ``gflops_network`` is ``gflops_paper`` without what the reduction itself
    computes), ``tokens`` leaving the last block, the reduction ``ratio``, ``images_per_second``, ``minutes`` of
    re-training, mutual information in ``nats`` (of the model as it is, by the estimator that the key names), or
    ``pictures``, which are no figure.
    training: how the model was trained after the reduction; a name of the scale's trainings, or ``free``.
    digits: decimals that the paper prints. device: that the paper's figures are of, if another gives others; nothing
    is run for such a column.
    """

    key: str
    title: str
    measure: Measure = "top1"
    training: str = "free"
    digits: int = 1
    device: str | None = None


@dataclass(frozen=True)
class Row:
    """One line of a table: a model under one reduction.

    coordinates: the model and the labels that tell this row from the others. reduction: its line, in which
    ``{label}`` stands for the row's own label and these words for how many tokens go: ``{amount}`` as the scale says
    it, ``{ratio}`` for the share that r saves, ``{count}`` for r, or at a scale of ratios the constant r of the
    stand-in that comes closest. small: the line where the scale's amount is a ratio; None is the same.
    r: tokens removed per reducing block; None is the model's own in the paper. changes: of the training's recipe, or
    ``training``, another than the column's. times: factors of fields of the training's recipe. printed: the paper's
    figures by column; a column that is missing here has none. on: a second data set, by its name at the scale, whose
    own network stands for the model; None is the model's usual one.
    """

    coordinates: Coordinates
    reduction: str
    small: str | None
    r: int | None
    changes: Mapping[str, Any]
    times: Mapping[str, float]
    printed: Mapping[str, float]
    on: str | None = None

    @property
    def model(self) -> str:
        """The paper's name of the model, as :func:`rmeeto.create_model` takes it."""
        return str(self.coordinates[MODEL])

    @property
    def stand_in(self) -> str:
        """The name under which a scale has what runs for the model."""
        return self.model if self.on is None else f"{self.model} on {self.on}"


@dataclass(frozen=True)
class Claim:
    """What the paper says about its figures, in a form that can be tested.

    text: one sentence. kind: ``better`` (left above right in every pair by more than the margin), ``equal`` (within
    the margin), ``monotone`` (along a label the figure falls, or rises), ``ratio`` (left over right is ``value``, up
    to the share ``margin``), or ``printed`` (our figure rounds to the printed one).
    left, right: coordinates that tell the two sides apart; all other coordinates of a pair are the same.
    against: coordinates of a second pair, whose difference is subtracted: "one loses more than the other".
    where: coordinates that a cell must have to take part; a list allows several values.
    along: the label of ``monotone``, in the order of the rows. rises: its direction.
    margin: percentage points (``better``, ``equal``), or a share (``ratio``). A negative margin of ``better`` is what
    the left side may lose at most: "drops by no more than 0.9".
    small: what stands for the claim at small scale, if that needs words. main: whether it is one of the few that carry
    the paper, which the page shows first.
    """

    text: str
    kind: ClaimKind
    left: Coordinates
    right: Coordinates
    against: Coordinates
    where: Mapping[str, Value | list[Value]]
    along: str | None = None
    rises: bool = False
    value: float | None = None
    margin: float = 0.0
    small: str | None = None
    main: bool = False


@dataclass(frozen=True)
class Table:
    """One table or figure.

    name: of its file, for instance ``5a`` or ``fig2``. title: what it compares. place: where the paper has it.
    section: of the paper. seeds: how often each re-trained cell is repeated. small: what stands for it at small scale.
    across: a label that is shown across the page; None shows one line per row. beyond: whether it is ours and not the
    paper's.
    """

    name: str
    title: str
    place: str
    section: str
    small: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    claims: tuple[Claim, ...]
    seeds: int = 3
    across: str | None = None
    beyond: bool = False

    def labels(self) -> tuple[str, ...]:
        """Names of the rows' coordinates, in the order in which they first appear."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row.coordinates))


def list_tables() -> tuple[str, ...]:
    """Names of all tables and figures, in the paper's order, those beyond the paper last."""
    names = (Path(str(item)) for item in (files("rmeeto") / "experiments").iterdir())
    return tuple(sorted((path.stem for path in names if path.suffix == ".toml"), key=_order))


def _order(name: str) -> tuple[Any, ...]:
    """Tables by number, then figures, then what goes beyond the paper."""
    number = name.removeprefix("fig")
    digits = number.rstrip("abcdefghijklmnopqrstuvwxyz")
    if not digits.isdigit():
        return (2, 0, name)
    return (int(name.startswith("fig")), int(digits), name)


def load_table(name: str) -> Table:
    """The table or figure of that name: ``5a``, ``13``, ``fig2``; ``Table 5a`` and ``Figure 2`` are understood.

    Raises:
        UnknownName: there is none, with the nearest names.
    """
    short = name.lower().replace("table", "").replace("figure", "fig").replace(".", "").replace(" ", "")
    if short not in list_tables():
        raise UnknownName("table", name, list_tables())
    text = (files("rmeeto") / "experiments" / f"{short}.toml").read_text(encoding="utf-8")
    return parse_table(short, text)


@cache
def parse_table(name: str, text: str) -> Table:
    """The table that a TOML text describes.

    Raises:
        ConfigError, UnknownName: it is not TOML, or a field is unknown, missing or of the wrong kind.
    """
    try:
        content = tomllib.loads(text)
    except ValueError as error:
        raise ConfigError(f"read the table {name}", why=f"it is not TOML: {error}") from error
    columns = tuple(_value(Column, name, column) for column in content.pop("column", []))
    rows = tuple(row for given in content.pop("row", []) for row in _rows(name, given, columns))
    claims = tuple(_claim(name, claim, rows, columns) for claim in content.pop("claim", []))
    table: Table = _value(Table, name, {"name": name, **content}, columns=columns, rows=rows, claims=claims)
    where = [tuple(row.coordinates.items()) for row in rows]
    if len(set(where)) < len(where) or not rows or not columns:
        raise _wrong(name, "two rows have the same labels" if rows and columns else "it has no rows or no columns")
    return table


def _value(kind: Any, table: str, given: dict[str, Any], **ready: Any) -> Any:
    """A dataclass from a TOML table; ``ready`` holds fields that have been read already."""
    hints = get_type_hints(kind)
    for key in given:
        if key not in hints or key in ready:
            raise UnknownName(f"field of a {kind.__name__.lower()} in table {table}", key, hints.keys() - ready.keys())
    values = {key: checked(f"{key} in table {table}", value, hints[key]) for key, value in given.items()}
    try:
        return kind(**values, **ready)
    except TypeError as error:
        raise _wrong(table, str(error).split("() ")[-1]) from error


def _rows(table: str, given: dict[str, Any], columns: Iterable[Column]) -> Iterable[Row]:
    """The rows that one entry stands for: a label that is a list makes one row for each of its values."""
    known = {"model", "labels", "reduction", "small", "r", "changes", "times", "printed", "on"}
    if unknown := given.keys() - known:
        raise UnknownName(f"field of a row in table {table}", min(unknown), known)
    labels, printed = dict(given.get("labels", {})), dict(given.get("printed", {}))
    if unknown := printed.keys() - {column.key for column in columns}:
        raise UnknownName(f"column of table {table}", min(unknown), {column.key for column in columns})
    swept = [name for name, value in labels.items() if isinstance(value, list)]
    if len(swept) > 1 or "model" not in given or "reduction" not in given:
        raise _wrong(table, f"a row has one model, one reduction and at most one list of labels: {given}")
    steps: list[Value] | list[None] = labels[swept[0]] if swept else [None]
    for name, values in printed.items():
        if isinstance(values, list) != bool(swept) or (swept and len(values) != len(steps)):
            raise _wrong(table, f"the printed figures of column {name} do not fit the labels {labels}")
    for number, step in enumerate(steps):
        own = labels if step is None else labels | {swept[0]: step}
        figures = {name: values[number] if swept else values for name, values in printed.items()}
        yield Row(
            coordinates={MODEL: given["model"], **own},
            reduction=given["reduction"],
            small=given.get("small"),
            r=own.get("r", given.get("r")),
            changes=given.get("changes", {}),
            times=given.get("times", {}),
            on=given.get("on"),
            # a cell that the paper leaves open in a list is written "—"
            printed={name: float(figure) for name, figure in figures.items() if figure != "—"},
        )


def _claim(table: str, given: dict[str, Any], rows: Iterable[Row], columns: Iterable[Column]) -> Claim:
    sides: dict[str, Any] = {name: given.pop(name, {}) for name in ("left", "right", "against", "where")}
    claim: Claim = _value(Claim, table, given, **sides)
    known = {name for row in rows for name in row.coordinates} | {COLUMN}
    used = {name for side in sides.values() for name in side} | ({claim.along} if claim.along else set())
    if unknown := used - known:
        raise UnknownName(f"label of table {table}", min(unknown), known)
    if (claim.kind == "monotone") != (claim.along is not None):
        raise _wrong(table, f"a monotone claim, and no other, names the label along which it holds: {claim.text}")
    if (claim.kind == "ratio") != (claim.value is not None):
        raise _wrong(table, f"a claim about a ratio, and no other, has a value: {claim.text}")
    if claim.left.keys() != claim.right.keys() or (claim.kind in ("better", "equal", "ratio")) != bool(claim.left):
        raise _wrong(table, f"two sides differ in the same labels: {claim.text}")
    return claim


def _wrong(table: str, why: str) -> ConfigError:
    return ConfigError(f"read the table {table}", why=why, fix="docs/experiments.md describes the format")
