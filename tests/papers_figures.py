"""Printed figures of tables."""

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
