"""Printed figures of tables, and whether the paper's claims are true of its own figures."""

from itertools import pairwise

from rmeeto.experiments.definition import COLUMN, load_table


def printed(name):
    """Every printed figure of a table, by its coordinates."""
    table = load_table(name)
    return {
        frozenset({**row.coordinates, COLUMN: key}.items()): figure
        for row in table.rows
        for key, figure in row.printed.items()
    }


def figures(name, **wanted):
    """The printed figures with these coordinates, in the order of the table."""
    return [figure for where, figure in printed(name).items() if wanted.items() <= dict(where).items()]


def matches(where, wanted):
    return all(where.get(name) in (v if isinstance(v, list) else [v]) for name, v in wanted.items())


def groups(name, claim):
    """The coordinates that a claim compares: pairs, pairs of pairs, or ladders."""
    table = load_table(name)
    everywhere = [{**row.coordinates, COLUMN: column.key} for row in table.rows for column in table.columns]
    chosen = [where for where in everywhere if matches(where, {**claim.where, **claim.left})]
    if claim.along is not None:
        ladders = {}
        for where in chosen:
            ladders.setdefault(frozenset((k, v) for k, v in where.items() if k != claim.along), []).append(where)
        return list(ladders.values())
    if claim.kind == "printed":
        return [[where] for where in chosen]
    pairs = [[where, {**where, **claim.right}] for where in chosen]
    if claim.against:
        pairs = [[*pair, *({**where, **claim.against} for where in pair)] for pair in pairs]
    return [pair for pair in pairs if all(where in everywhere for where in pair)]


def is_true_of_the_paper(name, claim):
    """Whether a claim is true of the printed figures, groups with an open cell left out; None if none is left."""
    own = printed(name)
    found = [[own.get(frozenset(where.items())) for where in group] for group in groups(name, claim)]
    complete = [group for group in found if None not in group]
    return all(holds(claim, group) for group in complete) if complete and claim.kind != "printed" else None


def holds(claim, group):
    if claim.kind == "monotone":
        steps = [b - a if claim.rises else a - b for a, b in pairwise(group)]
        return sum(steps) > 0 and all(step >= -1e-9 for step in steps)
    if claim.kind == "ratio":
        return claim.value / (1 + claim.margin) <= group[0] / group[1] <= claim.value * (1 + claim.margin)
    difference = sum(sign * one for sign, one in zip((1, -1, -1, 1), group, strict=False))
    if claim.kind == "equal":
        return abs(difference) <= claim.margin + 1e-9
    return difference > claim.margin or (claim.margin < 0 and abs(difference - claim.margin) < 1e-9)
