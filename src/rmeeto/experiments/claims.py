"""A claim of a table as the statistics know it, and the places of the table that it speaks of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rmeeto.analysis import Better, Equal, Monotone, Printed, Ratio
from rmeeto.experiments.definition import COLUMN, Claim, Coordinates, Table, Value
from rmeeto.experiments.plan import Place


def named(table: Table, claim: Claim) -> Better | Equal | Monotone | Ratio | Printed:
    """The claim as the statistics know it."""
    left, right = (side_in_words(table, claim, side) for side in (claim.left, claim.right))
    if claim.against:
        # a difference of differences: what the sides differ by, minus what they differ by elsewhere
        elsewhere = side_in_words(table, claim, claim.against)
        left, right = f"the difference of {left} and {right}", f"the same difference for {elsewhere}"
    if claim.kind == "better":
        more, less = ("larger", "smaller") if claim.against else ("better", "worse")
        return Better(claim.text, left, right, claim.margin, more, less)
    if claim.kind == "equal":
        return Equal(claim.text, left, right, claim.margin)
    if claim.kind == "monotone":
        return Monotone(claim.text, "rises" if claim.rises else "falls", claim.margin)
    if claim.kind == "ratio":
        assert claim.value is not None, "checked when the table was read"
        return Ratio(claim.text, claim.value, claim.margin)
    return Printed(claim.text)


def side_in_words(table: Table, claim: Claim, side: Coordinates) -> str:
    """One side of a claim, by what tells it from the other."""
    own = {name: value for name, value in side.items() if claim.right.get(name) != claim.left.get(name)} or side
    return ", ".join(word(table, name, value) for name, value in own.items())


def groups(claim: Claim, places: Sequence[Place]) -> Iterator[list[Place]]:
    """The places that belong together: the sides of a pair, the steps of a ladder, or one place by itself."""
    by_coordinates = {_frozen(place.coordinates): place for place in places}
    chosen = [place for place in places if _matches(place.coordinates, {**claim.where, **claim.left})]
    if claim.along is not None:
        rest = {id(p): _frozen({k: v for k, v in p.coordinates.items() if k != claim.along}) for p in chosen}
        for key in dict.fromkeys(rest.values()):
            yield [place for place in chosen if rest[id(place)] == key]
        return
    for place in chosen:
        if claim.kind == "printed":
            if place.column.key in place.row.printed:
                yield [place]
            continue
        sides = [place.coordinates, {**place.coordinates, **claim.right}]
        if claim.against:
            sides += [{**side, **claim.against} for side in sides]
        group = [by_coordinates.get(_frozen(side)) for side in sides]
        if None not in group:
            yield [one for one in group if one is not None]


def names(table: Table, claim: Claim, groups: Sequence[Sequence[Place]]) -> list[str]:
    """What tells the groups from each other, in words."""
    fixed = {*claim.left, claim.along}
    own = [{name: value for name, value in group[0].coordinates.items() if name not in fixed} for group in groups]
    differing = [name for name in own[0] if len({str(one.get(name)) for one in own}) > 1] or list(own[0])
    found = [", ".join(word(table, name, one[name]) for name in differing if name in one) for one in own]
    unique = len(set(found)) == len(found) and all(found)
    return found if unique else [f"pair {number + 1}" for number in range(len(found))]


def _matches(coordinates: Coordinates, wanted: Mapping[str, Value | list[Value]]) -> bool:
    """Whether a place has all the wanted coordinates; a list allows any of its values."""
    return all(
        name in coordinates and coordinates[name] in (value if isinstance(value, list) else [value])
        for name, value in wanted.items()
    )


def _frozen(coordinates: Coordinates) -> frozenset[tuple[str, Value]]:
    return frozenset(coordinates.items())


def word(table: Table, name: str, value: Value) -> str:
    """A coordinate as a sentence names it: a column by its heading, a model by its name, a label with its name."""
    if name == COLUMN:
        return next((column.title for column in table.columns if column.key == value), str(value))
    return str(value) if isinstance(value, str) else f"{name} {value:g}"
