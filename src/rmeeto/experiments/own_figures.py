"""What the paper's own printed figures say of a claim: a few claims are not true of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from rmeeto.experiments.claims import groups
from rmeeto.experiments.definition import Claim, Table
from rmeeto.experiments.plan import Place

ROUNDING = 1e-9  # differences of printed decimals are not exact
SIGNS = (1, -1, -1, 1)  # left minus right, minus the same of a second pair


def is_true_of_the_paper(table: Table, claim: Claim) -> bool | None:
    """Whether a claim is true of the printed figures, as they stand.

    Groups with a figure that the paper leaves open are left out. None if no group is left, and for counted figures,
    which are compared with the printed ones anyway.
    """
    if claim.kind == "printed":
        return None
    compared = groups(claim, every_place(table))
    found = [[place.row.printed.get(place.column.key) for place in group] for group in compared]
    complete = [[figure for figure in group if figure is not None] for group in found if None not in group]
    return all(holds(claim, group) for group in complete) if complete else None


def every_place(table: Table) -> list[Place]:
    """Every place of a table, without a scale: nothing is run for it."""
    return [Place(row, column, row.reduction) for row in table.rows for column in table.columns]


def holds(claim: Claim, figures: Sequence[float]) -> bool:
    """Whether a claim is true of the figures of one group: of two sides, of two pairs of sides, or of a ladder."""
    if claim.kind == "monotone":
        steps = [later - first if claim.rises else first - later for first, later in pairwise(figures)]
        return sum(steps) > 0 and all(step >= -ROUNDING for step in steps)
    if claim.kind == "ratio":
        assert claim.value is not None, "checked when the table was read"
        return claim.value / (1 + claim.margin) <= figures[0] / figures[1] <= claim.value * (1 + claim.margin)
    difference = sum(sign * figure for sign, figure in zip(SIGNS, figures, strict=False))
    if claim.kind == "equal":
        return abs(difference) <= claim.margin + ROUNDING
    return difference > claim.margin or (claim.margin < 0 and abs(difference - claim.margin) < ROUNDING)
