"""A claim as the page shows it: its words, and a table of the figures that decide it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rmeeto.experiments.definition import Table
from rmeeto.experiments.judge import NOT_YET, Judged
from rmeeto.experiments.own_figures import is_true_of_the_paper

STYLES = {  # CSS classes
    "holds": "holds",
    "does not hold": "fails",
    "undecided": "undecided",
    "not testable here": "untestable",
    NOT_YET: "waiting",
}
FIGURES = {  # of a comparison, as the page names them; others are named as they are
    "low": "95 % from",
    "high": "to",
    "p_above": "p, above the margin",
    "p_below": "p, below the margin",
    "p_within": "p, within the margin",
    "p_outside": "p, outside of the margin",
    "agrees": "rounds to it",
}
HIDDEN = {"decidable"}
ALIKE = {"unit": "by ", "n": "n ", "margin": "margin ", "test": ""}  # said once, so, if every line has the same


@dataclass(frozen=True)
class ShownClaim:
    """A claim on the page.

    style: a CSS class. own: what the paper's printed figures say of it; empty if they say nothing. heads, lines: of the
    table of comparisons. caption: what is the same in every line of it.
    """

    ident: str
    text: str
    small: str | None
    word: str
    style: str
    sentence: str
    own: str
    caption: str
    heads: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]


def shown_claim(ident: str, table: Table, judged: Judged) -> ShownClaim:
    """A claim with the figures that decide it, one line for each comparison."""
    figures = {} if judged.verdict is None else judged.verdict.figures
    alike = same_everywhere(figures.values())
    names = list(dict.fromkeys(name for one in figures.values() for name in one if name not in {*HIDDEN, *alike}))
    return ShownClaim(
        ident,
        judged.claim.text,
        judged.claim.small,
        judged.word,
        STYLES[judged.word],
        judged.sentence,
        own_text(is_true_of_the_paper(table, judged.claim)),
        ", ".join(f"{ALIKE[name]}{number_text(value)}" for name, value in alike.items()),
        ("", *map(name_text, names)),
        tuple((title, *(number_text(one.get(name)) for name in names)) for title, one in figures.items()),
    )


def own_text(is_true: bool | None) -> str:
    """What the paper's printed figures say of a claim; nothing if they do not tell."""
    return "" if is_true is None else f"By the paper’s own printed figures: {'true' if is_true else 'not true'}."


def same_everywhere(lines: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What :data:`ALIKE` names and every line has with the same value."""
    found = list(lines)
    first = found[0] if found else {}
    return {n: first[n] for n in ALIKE if n in first and all(n in one and one[n] == first[n] for one in found)}


def name_text(name: str) -> str:
    """A figure's name on the page."""
    return FIGURES.get(name, name.replace("_", " "))


def number_text(value: Any) -> str:
    """A figure of a comparison: four digits are more than any of them is worth."""
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}".replace("-", "−") if isinstance(value, float) else str(value)
