import os

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from cpp_kernels import needs_kernels
from rmeeto.exporting import onnx_format
from rmeeto.exporting.runners import onnx_runtime


@pytest.fixture(autouse=True)
def _one_runtime(monkeypatch):
    """ONNX Runtime alone: tests/exporting/test_folder.py has OpenVINO too."""
    monkeypatch.setattr(onnx_format, "onnx_runners", lambda *given: [onnx_runtime(*given)])


def test_a_folder_is_written_and_the_check_printed(rmeeto_cli, model_folder, tmp_path):
    done = rmeeto_cli("export", model_folder, "--output", tmp_path / "out", "--images", 1)
    assert "ONNX Runtime" in done.stdout
    assert "passed" in done.stdout
    assert (tmp_path / "out/model.onnx").exists()
    assert '"red"' in (tmp_path / "out/labels.json").read_text()


def test_a_failed_check_ends_with_an_error_after_the_table(rmeeto_cli, model_folder, tmp_path, monkeypatch):
    from rmeeto.exporting import gate

    monkeypatch.setattr(gate, "BUDGET", 0.0)
    done = rmeeto_cli("export", model_folder, "--output", tmp_path / "out", "--images", 1, code=2)
    assert "failed" in done.stdout
    assert "do not use them" in done.stderr


@needs_kernels
@pytest.mark.skipif(
    "RMEETO_SLOW_TESTS" not in os.environ, reason="writes every format; .ci/run sets RMEETO_SLOW_TESTS=1"
)
def test_without_a_folder_only_the_table_is_left(rmeeto_json, model_folder):
    found = rmeeto_json("export", model_folder, "--table", "--all", "--images", 1, "--reduce", "none")
    assert {row["format"] for row in found["rows"]} == {"onnx", "pt2", "native"}
    assert found["reduction"] == "none"
    assert found["folder"] is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "--output"),
        (("--output", "x", "--batch", "many"), "dynamic"),
        (("--output", "x", "--format", "tflite"), "no format has that name"),
        (("--output", "x", "--reduce", "pitome:r=2"), "merge, prune, stm"),
    ],
)
def test_what_cannot_be_is_said_at_once(rmeeto_cli, model_folder, arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert words in rmeeto_cli("export", model_folder, *arguments, code=2).stderr
    assert not (tmp_path / "x").exists()
