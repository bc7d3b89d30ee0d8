"""``rmeeto tune``: how many tokens to remove at which block, found on a few images without training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Column

from rmeeto.cli import console, options
from rmeeto.cli.model import build, fitting_reductions
from rmeeto.cli.rows import operations
from rmeeto.errors import ConfigError
from rmeeto.files.paths import check_output

AMOUNTS = ("r=", "ratio=", "gflops=", "fewer=")

if TYPE_CHECKING:
    from rmeeto.tuning import TuneResult


def tune(
    model: options.ModelArgument,
    data: options.DataOption = None,
    gflops: Annotated[float | None, typer.Option(help="At most so many exact GFLOPs per image.")] = None,
    fewer: Annotated[float | None, typer.Option(help="At least so many times fewer operations, such as 1.4.")] = None,
    ratio: Annotated[float | None, typer.Option(help="The cost of this reduction ratio, such as 0.3.")] = None,
    reduce: Annotated[
        str, typer.Option("--reduce", metavar="METHOD", help="The method, such as merge:features=C.")
    ] = "merge",
    images: Annotated[int, typer.Option(min=1, help="Training images to search on; no label is read.")] = 512,
    evaluations: Annotated[int, typer.Option(min=1, help="Schedules to try at most.")] = 150,
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="FILE", help="JSON for --reduce @FILE.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides the order of the search.")] = 0,
    weights: options.WeightsOption = None,
    batch: options.BatchOption = 64,
    device: options.DeviceOption = "auto",
    precision: options.PrecisionOption = "float32",
    workers: options.WorkersOption = 2,
    impl: options.ImplOption = "auto",
    as_json: options.JsonOption = False,
) -> None:
    """Search how many tokens to remove at which block, for a budget and without training.

    Schedules are judged by how little they change the model's answers on training images, and the best is compared on
    validation images with a constant count of equal cost.
    """
    if data is None:
        raise ConfigError(f"tune {model}", why="nothing says on which images", fix="--data DIR, with train/ and val/")
    line = with_budget(model, reduce, {"gflops": gflops, "fewer": fewer, "ratio": ratio})
    if output is not None:
        check_output(output)

    from rmeeto.models.description import describe
    from rmeeto.tuning import tune as run

    (parsed,) = fitting_reductions(describe(model), [line])
    assert parsed is not None
    result = run(
        build(model, weights, impl=impl),
        data,
        parsed,
        images=images,
        evaluations=evaluations,
        seed=seed,
        batch_size=batch,
        device=device,
        precision=precision,
        workers=workers,
        progress=console.progress(),
    )
    if output is not None:
        result.save(output)
    if as_json:
        console.print_json(result.to_dict())
    else:
        print_result(result, output)


def with_budget(model: str, line: str, budgets: dict[str, float | None]) -> str:
    """A method's line with the budgets that were given as options.

    Raises:
        ConfigError: no method, or no budget.
    """
    if line.strip() == "none":
        raise ConfigError(f"tune {model}", why="--reduce none has no schedule", fix="for instance --reduce merge")
    method, _, options = line.partition(":")
    given = [f"{name}={value!r}" for name, value in budgets.items() if value is not None]
    if (
        not given
        and not line.startswith("@")
        and not any(part.strip().startswith(AMOUNTS) for part in options.split(","))
    ):
        raise ConfigError(
            f"tune {model}",
            why="exactly one of --gflops, --fewer and --ratio (or r in --reduce) says how much is reduced",
            fix="--gflops 3.6, --fewer 1.4 or --ratio 0.3",
        )
    return f"{method}:{','.join([*filter(None, [options]), *given])}" if given else line


def print_result(result: TuneResult, output: str | None) -> None:
    """Unreduced, given, tuned; and the line to use."""
    table = console.table(
        Column("schedule", no_wrap=True),
        console.number("top-1\n%"),
        console.number("loss\n"),
        console.number("divergence\nnats"),
        console.number("tokens\nat end"),
        console.number("exact\nGFLOPs"),
        title=f"{result.scores[0].images} validation images; searched on {result.images} training images, "
        f"{result.evaluations} schedules tried in {result.seconds:.0f} s",
    )
    divergences = ("", f"{result.given_divergence:.4f}", f"{result.divergence:.4f}")
    for score, divergence in zip(result.scores, divergences, strict=True):
        table.add_row(
            score.name,
            f"[bold]{score.top1_percent:.2f}[/]",
            f"{score.loss:.3f}",
            divergence,
            str(score.tokens),
            operations(score.gflops_exact),
        )
    out = console.out()
    out.print(table, "")
    gain = f"{result.gain_points:+.2f}".replace("-", "−")
    out.print(f"tuned against {escape(result.given)}, at no higher cost: [bold]{gain} points[/]")
    out.print(f"  {escape(result.reduction)}", soft_wrap=True)
    if output is not None:
        out.print(f"use it with [bold]--reduce @{escape(output)}[/]")
