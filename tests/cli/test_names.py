"""Names in any encoding: every command works with names that are not UTF-8, or look like markup."""

import io
import json
import os
import sys

import pytest
from typer.testing import CliRunner

from rmeeto.cli import app, console
from rmeeto.cli.retrain import recipe_from
from rmeeto.errors import ConfigError
from rmeeto.evaluation.results import load_results
from rmeeto.training.runlog import read_log
from toys import make_folder, picture, truncate

BAD = os.fsdecode(b"bad\xff")
SHOWN = r"bad\xff"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    colours = {BAD: (40, 60, 200), "[red]": (200, 50, 40), "中": (40, 190, 60)}
    root = make_folder(tmp_path_factory.mktemp("names") / "toys", train=4, val=2, colours=colours)
    for split, count in (("train", 4), ("val", 2)):
        for number in range(count):
            for label, name in enumerate((f"{BAD}{number}.png", f"$a_{{${number}.png", f"[bold]文\n{number}.png")):
                (root / split / sorted(colours)[label] / f"{number}.png").rename(
                    root / split / sorted(colours)[label] / name
                )
    return root


@pytest.fixture(scope="module")
def run_folder(folder, tmp_path_factory, model_folder):
    output = tmp_path_factory.mktemp("run") / "run"
    options = ("--data", folder, "--reduce", "merge:r=4", "--epochs", 1, "-b", 4, "-j", 2, "--output", output)
    result = CliRunner().invoke(app, ["retrain", model_folder, *map(str, options), "--json"])
    assert json.loads(result.stdout)["classes"] == 3
    return output


def test_data_check(rmeeto_cli, rmeeto_json, folder, tmp_path):
    report = rmeeto_json("data", "check", folder, "--workers", 2)
    assert {item["name"] for item in report["splits"][0]["classes"]} == {BAD, "[red]", "中"}
    shown = rmeeto_cli("data", "check", folder, "--workers", 0).stdout
    assert SHOWN in shown
    assert "[red]" in shown
    broken = make_folder(tmp_path / "broken", train=1, val=1) / "val" / "red" / f"{BAD}.png"
    picture((1, 2, 3), 0).save(broken)
    truncate(broken)
    assert SHOWN in rmeeto_cli("data", "check", tmp_path / "broken", "--workers", 0, code=1).stderr


def test_a_run_and_what_it_leaves(run_folder, rmeeto_json, folder):
    assert load_results(run_folder).classes == 3
    assert [record["event"] for record in read_log(run_folder / "log.jsonl")][-1] == "end"
    rows = rmeeto_json("eval", run_folder, "--data", folder, "-j", 0)["rows"]
    assert rows[-1]["images"] == 6


def test_predict_and_show(run_folder, rmeeto_cli, rmeeto_json, folder, tmp_path):
    predictions = rmeeto_json("predict", run_folder, folder / "val")["predictions"]
    assert sorted(os.path.exists(one["image"]) for one in predictions) == [True] * 6
    assert {guess["name"] for one in predictions for guess in one["guesses"]} == {BAD, "[red]", "中"}
    assert SHOWN in rmeeto_cli("predict", run_folder, folder / "val").stdout
    rmeeto_cli("show", run_folder, folder / "val", "--output", tmp_path / f"{BAD}.png")
    assert (tmp_path / f"{BAD}.png").stat().st_size


def test_a_broken_image_in_a_run_is_named_in_its_log(rmeeto_json, model_folder, tmp_path):
    root = make_folder(tmp_path / "toys", train=4, val=1)
    name = truncate((root / "train" / "red" / "0.png").rename(root / "train" / "red" / f"{BAD}.png"))
    options = ("--epochs", 1, "-b", 4, "-j", 0, "--output", tmp_path / "run", "--reduce", "none")
    results = rmeeto_json("retrain", model_folder, "--data", root, *options)
    assert results["skipped_images"][0].startswith(str(name))
    events = [record for record in read_log(tmp_path / "run" / "log.jsonl") if record["event"] == "unreadable_image"]
    assert events[0]["name"].startswith(str(name))


def test_a_recipe_says_that_it_can_only_hold_text():
    with pytest.raises(ConfigError, match=r"bad\\xff[\s\S]*UTF-8"):
        recipe_from(None, {"model": "vim_tiny", "data": BAD})


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_output_in_any_encoding(encoding, monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    console.print_json({"name": [BAD, "中"]})
    console.out().print(BAD, "中")
    sys.stdout.flush()
    text = sys.stdout.buffer.getvalue().decode(encoding)
    report, end = json.JSONDecoder().raw_decode(text)
    assert report == {"name": [BAD, "中"]}
    assert text[end:].split()[0] == SHOWN
