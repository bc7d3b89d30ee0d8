"""A tiny saved model, a tiny folder of pictures, and a way to run the command line."""

import json

import pytest
from typer.testing import CliRunner

import rmeeto
from rmeeto.cli import app
from toys import COLOURS, SIZES, make_folder


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    model = rmeeto.create_model("vim_tiny", reduction="merge:r=3", num_classes=3, **SIZES)
    metadata = {"classes": json.dumps(sorted(COLOURS))}
    return str(rmeeto.save_model(model, tmp_path_factory.mktemp("model"), name="toy", metadata=metadata))


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("pictures"), train=4, val=2)


@pytest.fixture
def rmeeto_cli(monkeypatch):
    """Run the command line in this process, as into a pipe; ``.stdout`` and ``.stderr`` stay apart."""
    monkeypatch.delenv("COLUMNS", raising=False)
    runner = CliRunner()

    def run(*arguments, code=0):
        result = runner.invoke(app, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result

    return run


@pytest.fixture
def rmeeto_json(rmeeto_cli):
    """Run with ``--json``; stdout must be one JSON object and nothing else."""

    def run(*arguments, code=0):
        value = json.loads(rmeeto_cli(*arguments, "--json", code=code).stdout)
        assert isinstance(value, dict)
        return value

    return run
