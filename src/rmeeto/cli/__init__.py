"""The command line: one small file per command.

Only typer, rich and the standard library are imported here, so that ``rmeeto --help`` answers at once; a command
imports what it needs when it runs.
"""

from rmeeto.cli.app import app


def main() -> None:
    """Run the command line and leave the process with its exit code."""
    app(prog_name="rmeeto")


__all__ = ["app", "main"]
