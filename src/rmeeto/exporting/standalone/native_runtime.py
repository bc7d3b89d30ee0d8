"""The end of ``run.py`` in a folder with the C library: its binding, and the command."""

from __future__ import annotations

from rmeeto.exporting.standalone.prepare import HERE, answer, parser


def main() -> None:
    """The command."""
    import rmeeto_native

    answer(parser().parse_args(), rmeeto_native.load(HERE / "model.rmeeto"))


if __name__ == "__main__":
    main()
