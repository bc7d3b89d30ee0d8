import io

import pytest
from rich.console import Console

from rmeeto.cli import console
from rmeeto.cli.progress import Bars, Lines


def terminal():
    return Console(file=io.StringIO(), force_terminal=True, width=100)


def test_a_pipe_gets_one_line_per_task():
    out = io.StringIO()
    lines = Lines(Console(file=out, width=200))
    with lines.task("evaluating", 10) as task:
        for _ in range(5):
            task.advance(2, loss=0.123456, images_per_second=840.4, top1_percent=71.25)
    lines.message("done [for now]")
    first, second = out.getvalue().splitlines()
    assert first.startswith("evaluating: 10/10 in ")
    assert first.endswith("loss 0.1235  840 images/s  top1 71.2 %")
    assert second == "done [for now]"


def test_a_terminal_gets_a_bar_with_rate_and_time():
    screen = terminal()
    bars = Bars(screen)
    with bars.task("re-training", 4) as task:
        task.advance(3, images_per_second=12.0)
        task.bars.refresh()
    shown = screen.file.getvalue()
    assert "re-training" in shown
    assert "3/4" in shown
    assert "12 images/s" in shown


@pytest.mark.parametrize("watcher", [Lines, Bars])
def test_a_task_that_fails_ends_cleanly(watcher):
    progress = watcher(terminal())

    def work():
        with progress.task("work", 2) as task:
            task.advance()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    with progress.task("more work", 1) as task:
        task.advance()


def test_tables_in_pipes_are_not_cut_at_80_columns(monkeypatch, capsys):
    monkeypatch.delenv("COLUMNS", raising=False)
    console.out().print("x" * 130)
    assert capsys.readouterr().out == "x" * 130 + "\n"
