import json
import os
from pathlib import Path

import pytest

from rmeeto.experiments.definition import list_tables
from rmeeto.experiments.scale import DataSet, Scale, StandIn
from toys import SIZES, make_folder

PLAIN = {"epochs": 1, "batch_size": 4, "lr": 3e-3, "auto_augment": None, "mixup": 0.0, "cutmix": 0.0}
TOY = Scale(
    name="toy",
    title="toys",
    amount="ratio",
    data={"images": DataSet("colours", "made by a test", "0123456789ab"), "clips": DataSet("films", "nowhere")},
    models={
        "vim_tiny": StandIn("vim_tiny", "images", 5, options=SIZES, seconds={"base": 200, "free": 1, "trained": 2})
    },
    trainings={"minutes": PLAIN, "long": PLAIN},
    base=PLAIN,
)


@pytest.fixture
def toy_scale(monkeypatch):
    """``--scale toy`` stands beside the shipped scales."""
    import rmeeto.experiments.scale as scales

    shipped = scales.load_scale
    monkeypatch.setattr(scales, "load_scale", lambda name: TOY if name == "toy" else shipped(name))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("toys"), train=4, val=2)


@pytest.fixture
def store(tmp_path):
    return tmp_path / "store"


def test_all_tables_are_listed_with_their_state(rmeeto_cli, rmeeto_json, store):
    text = rmeeto_cli("table", "--store", store).stdout
    assert "How much of the order is shuffled" in text
    listed = rmeeto_json("table", "--store", store)["tables"]
    assert [one["table"] for one in listed] == list(list_tables())
    assert not store.exists()


def test_a_table_that_does_not_exist_names_the_nearest(rmeeto_cli):
    assert "5a" in rmeeto_cli("table", "5x", code=2).stderr
    assert "small" in rmeeto_cli("table", "5a", "--scale", "smal", code=2).stderr


def test_without_data_nothing_is_run_and_what_is_there_is_shown(rmeeto_cli, store):
    text = rmeeto_cli("table", "5a", "--store", store).stdout
    assert "24.0" in text
    assert "1 to run" in text
    assert "not run yet" in text


def test_counted_tables_need_no_data(rmeeto_json, store):
    (one,) = rmeeto_json("table", "10", "--store", store)["tables"]
    assert one["claims"][0]["verdict"]["word"] == "holds"


def test_the_plan_at_full_scale_has_commands_operations_and_printed_accuracies(rmeeto_cli, rmeeto_json, store):
    text = rmeeto_cli("table", "5a", "--scale", "full", "--dry-run", "--store", store).stdout
    assert "rmeeto retrain vim_tiny --data IMAGES --reduce merge:r=5,shuffle=0.1 --recipe minutes" in text
    assert "1.284 G operations" in text
    assert "the paper prints 69.9" in text
    (plan,) = rmeeto_json("table", "5a", "--scale", "full", "--dry-run", "--store", store)["tables"]
    first = plan["places"][0]
    assert (first["printed"], round(first["gflops_paper"], 2)) == (24.0, 1.28)
    assert first["cells"][0]["command"].startswith("rmeeto eval vim_tiny")


@pytest.mark.parametrize("given", [("a", "b"), ("images=a", "b"), ("images=a", "images=b")])
def test_one_data_set_in_two_places_is_refused(rmeeto_cli, given, store):
    options = [word for one in given for word in ("--data", one)]
    assert "a data set is in one place" in rmeeto_cli("table", "5a", *options, "--store", store, code=2).stderr


def test_a_folder_that_is_missing_is_refused_before_anything_is_written(rmeeto_cli, store, tmp_path):
    assert "missing" in rmeeto_cli("table", "5a", "--data", tmp_path / "missing", "--store", store, code=2).stderr
    assert not store.exists()


@pytest.mark.usefixtures("toy_scale")
def test_a_table_is_run_resumed_and_shown(rmeeto_cli, folder, store):
    def run():
        options = ("--scale", "toy", "--data", f"images={folder}", "--store", store, "--seeds", 1, "--jobs", 1)
        return rmeeto_cli("table", "5a", *options)

    first = run()
    # the small Vim has no stand-in among toys
    assert "8 cells to run, 1 base model to train first, about 4 min" in first.stderr
    assert "fingerprint" in first.stderr  # the toys are not what the scale's stored cells are about
    files = {path: path.read_bytes() for path in Path(store).glob("*.json")}
    assert len(files) == 8
    again = run()
    assert "to run" not in again.stderr
    assert again.stdout == first.stdout
    assert {path: path.read_bytes() for path in Path(store).glob("*.json")} == files
    damaged = next(iter(files))
    damaged.write_text("{", encoding="utf-8")
    assert "1 cell to run" in run().stderr
    assert json.loads(damaged.read_text(encoding="utf-8"))["correct"] == json.loads(files[damaged])["correct"]


@pytest.mark.usefixtures("toy_scale")
def test_a_run_beside_another_one_is_refused(rmeeto_cli, folder, store):
    from rmeeto.experiments.store import Store

    options = ("--scale", "toy", "--data", folder, "--store", store, "--seeds", 1)
    with Store(store).locked():
        assert "another run is writing" in rmeeto_cli("table", "5a", *options, code=2).stderr


@pytest.mark.parametrize("option", ["--page", "--csv", "--markdown"])
def test_an_output_that_is_no_file_is_refused_at_once(rmeeto_cli, store, tmp_path, option):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert "not a file" in rmeeto_cli("table", "5a", "--store", store, option, pipe, code=2).stderr
    assert pipe.is_fifo()
    assert "it is a folder" in rmeeto_cli("table", "5a", "--store", store, option, tmp_path, code=2).stderr


def test_page_csv_and_markdown_are_written(rmeeto_cli, store, tmp_path):
    page, csv, markdown = (tmp_path / "new" / name for name in ("page.html", "table.csv", "table.md"))
    rmeeto_cli("table", "5a", "--store", store, "--page", page, "--csv", csv, "--markdown", markdown)
    assert "Table 5a. How much of the order is shuffled" in page.read_text(encoding="utf-8")
    assert csv.read_text(encoding="utf-8").startswith("table,model,shuffle,column")
    assert markdown.read_text(encoding="utf-8").startswith("## Table 5a: How much of the order is shuffled")


def test_a_data_set_that_the_scale_lacks_names_the_nearest(rmeeto_cli, store):
    text = rmeeto_cli("table", "5a", "--data", "image=somewhere", "--store", store, code=2).stderr
    assert "unknown data set of the scale small 'image'" in text
    assert "images" in text


@pytest.mark.parametrize("option", ["--page", "--csv", "--markdown"])
def test_a_dry_run_writes_no_file(rmeeto_cli, store, tmp_path, option):
    file = tmp_path / "file"
    assert "dry run" in rmeeto_cli("table", "5a", "--dry-run", "--store", store, option, file, code=2).stderr
    assert not file.exists()


def test_a_dry_run_counts_base_models(rmeeto_cli, store):
    assert "2 base models to train first" in rmeeto_cli("table", "5a", "--dry-run", "--store", store).stderr


def test_a_timed_cell_prints_the_command_that_times_alike(rmeeto_cli, store):
    text = rmeeto_cli("table", "12", "--scale", "full", "--dry-run", "--store", store).stdout
    assert "rmeeto bench vim_small --reduce merge:r=5 --batch 32 --rounds 40 --seconds 20" in text
