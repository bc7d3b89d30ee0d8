from dataclasses import replace

import pytest

import rmeeto
from rmeeto.demo import DemoResult
from rmeeto.errors import ConfigError
from rmeeto.evaluation.results import Results, Row
from rmeeto.speed import bench
from toys import SIZES

ROW = Row("unreduced", 97.0, None, 0.1, 0.04, 0.02, 17, 0.0, 100, 500.0, 1.0)


@pytest.fixture
def demo_of(monkeypatch):
    """Put a finished demo in place of the real one; returns what the command line asked for."""
    model = rmeeto.create_model("vim_tiny", **SIZES)
    speed = bench(model, [rmeeto.TokenMerge(r=5)], batches=(1,), rounds=5, memory=False)
    asked = {}

    def run_demo(output, *, budget_seconds, progress):
        asked.update(output=output, budget_seconds=budget_seconds)
        progress.message("working")
        if budget_seconds <= 0:
            raise ConfigError("run the demo in no time", why="that is no time")
        rows = (ROW, replace(ROW, name="reduced", top1_percent=90.5), replace(ROW, name="reduced + re-trained"))
        results = Results(rows, (), "", "run", 9.0, 3, 8, 8, 10, (), 0, "f", "cpu", "float32", "cpp", 1, {})
        return DemoResult(results, speed, output / "report.html", output / "run", 9.5, shortened=False)

    monkeypatch.setattr("rmeeto.demo.run_demo", run_demo)
    return asked


def test_the_table_the_verdict_and_where_to_look(rmeeto_cli, demo_of, tmp_path):
    result = rmeeto_cli("demo", "--output", tmp_path, "--seconds", 30)
    assert demo_of == {"output": tmp_path, "budget_seconds": 30}
    for text in ("reduced + re-trained", "−6.50", "merge:r=5:", "FLOPs promise", "report.html"):
        assert text in result.stdout
    assert "working" in result.stderr


def test_json(rmeeto_json, demo_of, tmp_path):
    found = rmeeto_json("demo", "--output", tmp_path)
    assert [row["name"] for row in found["results"]["rows"]] == ["unreduced", "reduced", "reduced + re-trained"]
    assert found["speed"]["measurements"][1]["verdict"]
    assert demo_of["budget_seconds"] == 120


def test_no_time(rmeeto_cli, demo_of):
    assert "no time" in rmeeto_cli("demo", "--seconds", 0, code=2).stderr
