"""All commands together, and the one place where an error becomes a panel and an exit code."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from rmeeto import __version__
from rmeeto.cli import console
from rmeeto.cli.bench import bench
from rmeeto.cli.data import data
from rmeeto.cli.demo import demo
from rmeeto.cli.doctor import doctor
from rmeeto.cli.eval import evaluate
from rmeeto.cli.export import export
from rmeeto.cli.failures import exit_code, explain
from rmeeto.cli.flops import flops
from rmeeto.cli.models import models
from rmeeto.cli.plan import plan
from rmeeto.cli.predict import predict
from rmeeto.cli.retrain import retrain
from rmeeto.cli.show import show
from rmeeto.cli.table import table
from rmeeto.cli.tune import tune
from rmeeto.runtime.allocator import keep_freed_memory

INTERRUPTED = 130  # 128 + SIGINT, as shells count
# Typer prints a wrong command line itself. The class is click's; newer versions of typer contain click.
USAGE_ERROR: type[Exception] = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")


class Verbs(TyperGroup):
    """Runs a command. Any exception that ends it becomes one panel, after a traceback if RMEETO_DEBUG is set."""

    def invoke(self, ctx: Any) -> Any:
        """Run, with our warnings on one line each.

        Raises:
            typer.Exit: 2 after an :class:`rmeeto.errors.RmeetoError` (or its own ``exit_code``), 1 after any other
                exception, 130 after Ctrl-C.
        """
        try:
            with console.only_our_words():
                result = super().invoke(ctx)
                sys.stdout.flush()  # so that a closed pipe raises here, not when Python ends
                return result
        except (USAGE_ERROR, typer.Abort, typer.Exit):
            raise
        except Exception as error:
            explained = explain(error)
            console.show_failure(error, explained)
            raise typer.Exit(exit_code(explained)) from None
        except KeyboardInterrupt:
            console.note("interrupted")
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    cls=Verbs,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def show_version(asked: bool) -> None:
    """Print the version and stop."""
    if asked:
        typer.echo(f"rmeeto {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Make Vision Mamba faster in minutes: merge similar tokens in order, re-train briefly, show the evidence.

    MODEL is a name from [bold]rmeeto models[/], a folder that rmeeto saved, or hf-hub:owner/name.
    A reduction is one line: [bold]merge:r=11[/], [bold]prune:r=5,features=C[/], or [bold]none[/].
    """
    keep_freed_memory()


LOOK, REDUCE, PAPER, CHECK = "Look", "Reduce, re-train, measure", "The paper", "Check"

app.command(rich_help_panel=LOOK)(models)
app.command(rich_help_panel=LOOK)(flops)
app.command(rich_help_panel=LOOK)(show)
app.command(rich_help_panel=LOOK)(predict)
app.command("eval", rich_help_panel=REDUCE)(evaluate)
app.command(rich_help_panel=REDUCE)(retrain)
app.command(rich_help_panel=REDUCE)(tune)
app.command(rich_help_panel=REDUCE)(bench)
app.command(rich_help_panel=REDUCE)(plan)
app.command(rich_help_panel=REDUCE)(export)
app.command(rich_help_panel=PAPER)(table)
app.add_typer(data, name="data", rich_help_panel=CHECK)
app.command(rich_help_panel=CHECK)(demo)
app.command(rich_help_panel=CHECK)(doctor)
