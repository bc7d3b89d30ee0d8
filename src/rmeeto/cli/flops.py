"""``rmeeto flops``: what a model costs, in both conventions, without running it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rmeeto.cli import console, options
from rmeeto.cli.rows import operations

if TYPE_CHECKING:
    from rmeeto.cost import Cost
    from rmeeto.models.description import Description

PAPER, EXACT = "paper convention\nG operations", "exact convention\nGFLOPs"


@dataclass(frozen=True)
class Counted:
    """One reduction's cost in both conventions."""

    reduction: str
    paper: Cost
    exact: Cost

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        schedule = self.exact.schedule
        return {
            "reduction": self.reduction,
            "lower_bound": self.exact.lower_bound,
            "reduction_ratio": schedule.ratio,
            "tokens": list(schedule.tokens),
            "paper_operations": self.paper.total,
            "exact_flops": self.exact.total,
            "paper_terms": self.paper.terms,
            "exact_terms": self.exact.terms,
        }


def flops(
    model: options.ModelArgument,
    reduce: options.ReducesOption = None,
    blocks: Annotated[bool, typer.Option("--blocks", help="Also list every block.")] = False,
    terms: Annotated[bool, typer.Option("--terms", help="Also list what the operations are spent on.")] = False,
    as_json: options.JsonOption = False,
) -> None:
    """Count operations and tokens per block; nothing is run.

    paper: as in the paper's Table 2; a multiply-add is one, and one of the two scan directions is counted.

    exact: every floating-point operation, both directions.
    """
    from rmeeto.models.description import describe

    described = describe(model)
    counted = [count(described, line) for line in reduce or default_reductions(described)]
    if as_json:
        console.print_json({"model": described.name, "reductions": [one.to_dict() for one in counted]})
        return
    print_totals(described, counted)
    if terms:
        for one in counted:
            print_terms(one)
    if blocks:
        for one in counted:
            print_blocks(one)


def default_reductions(model: Description) -> list[str]:
    """``none``, and the reduction that the model was saved with or the paper uses for it."""
    from rmeeto.experiments.scale import load_scale

    papers_own = load_scale("full").models.get(model.name)
    reduced = model.reduction or (f"merge:r={papers_own.r}" if papers_own else None)
    return ["none", *([reduced] if reduced else [])]


def count(model: Description, line: str) -> Counted:
    """Both conventions for one ``--reduce`` line."""
    from rmeeto import cost
    from rmeeto.reduction import parse_reduction

    reduction = parse_reduction(line)
    return Counted(
        str(reduction or "none"),
        cost.count(model.config, reduction, convention="paper"),
        cost.count(model.config, reduction, convention="exact"),
    )


def print_totals(model: Description, counted: list[Counted]) -> None:
    """One line per reduction, the change against the first one in brackets."""
    config, first = model.config, counted[0]
    _, *frames, height, width = config.input_size
    what = f"clip of {frames[0]} {height}×{width} images" if frames else f"{height}×{width} image"
    table = console.table(
        "reduction",
        console.number("tokens\nin → out"),
        console.number("reduction\nratio"),
        console.number(PAPER),
        console.number(EXACT),
        title=f"{model.name}: one {what}, {config.depth} blocks, {config.tokens} tokens",
    )
    for one in counted:
        schedule, least, most = one.exact.schedule, *(("≥ ", "≤ ") if one.exact.lower_bound else ("", ""))
        table.add_row(
            one.reduction,
            f"{schedule.start} → {least}{schedule.tokens[-1]}",
            f"{most}{schedule.ratio:.2f}",
            least + giga_and_change(one.paper.total, first.paper.total),
            least + giga_and_change(one.exact.total, first.exact.total),
        )
    console.out().print(table)
    if any(one.exact.lower_bound for one in counted):
        console.note("≥ and ≤ are bounds: the number of removed tokens depends on the image; rmeeto eval counts them")


def giga_and_change(total: float, base: float) -> str:
    """``3.58 (−30 %)``; without a percentage if equal to the first row."""
    change = 100 * (total / base - 1)
    shown = "" if total == base else f"{change:+.0f} %".replace("-", "−")
    return f"{operations(total / 1e9)} [dim]{shown:>6}[/]"


def print_terms(one: Counted) -> None:
    """What the operations are spent on, largest first."""
    table = console.table(
        "term",
        console.number(PAPER),
        console.number("share"),
        console.number(EXACT),
        console.number("share"),
        title=f"terms, {one.reduction}",
    )
    for name in dict.fromkeys([*one.exact.terms, *one.paper.terms]):
        table.add_row(name, *term_cells(one.paper, name), *term_cells(one.exact, name))
    console.out().print("", table)


def term_cells(cost: Cost, name: str) -> tuple[str, str]:
    """A term's operations and its share of all; dashes if the convention does not count it."""
    if name not in cost.terms:
        return "—", "—"
    share = 100 * cost.terms[name] / cost.total
    return f"{cost.terms[name] / 1e9:.4f}", f"{share:.1f} %" if share >= 0.05 else "< 0.1 %"


def print_blocks(one: Counted) -> None:
    """What each block sees and costs, its reduction included."""
    table = console.table(
        console.number("block"),
        console.number("tokens\nremoved"),
        console.number("tokens\nseen"),
        console.number(PAPER),
        console.number(EXACT),
        title=f"blocks, {one.reduction}",
    )
    for number, (paper, exact) in enumerate(zip(one.paper.blocks, one.exact.blocks, strict=True)):
        removed = f"−{exact.removed}" if exact.removed else ""
        table.add_row(str(number), removed, str(exact.tokens), f"{paper.total / 1e9:.4f}", f"{exact.total / 1e9:.4f}")
    outside = (f"{sum(cost.outside.values()) / 1e9:.4f}" for cost in (one.paper, one.exact))
    table.add_section()
    table.add_row("rest", "", "", *outside)
    console.out().print("", table)
