import json

import pytest
from PIL import Image

from rmeeto.speed.table3 import MINUTES

PAPERS = ("plan", "vim_small", "--nodes", "4", "--calibrate", "8=25.2")


def test_the_plan_of_the_papers_setting_shows_its_table_beside_ours(rmeeto_cli):
    result = rmeeto_cli(*PAPERS)
    lines = result.stdout.splitlines()
    assert lines[0].startswith("vim_small, merge:r=11 on 4 × 8 GPUs: 6.6")
    assert "calibrated so that 8 GPUs take 25.2 minutes: 24.70 of them are computing" in result.stdout
    assert "Compute is the bottleneck" in result.stdout
    assert "torchrun --nnodes 4 --nproc-per-node 8 -m rmeeto retrain vim_small" in result.stdout
    assert "--batch 704 --accumulate 64" in result.stdout
    rows = {
        cells[0]: cells
        for line in lines
        if len(cells := line.split()) > 7 and "".join(cells[:2]).replace(",", "").isdigit()
    }
    assert list(rows) == ["1", "2", "4", "8", "16", "32"]
    assert [rows[n][-2] for n in ("8", "16", "32")] == ["25.2", "12.9", "6.8"]
    assert "reading is not counted" in result.stderr


def test_json_holds_what_the_table_shows(rmeeto_json):
    found = rmeeto_json(*PAPERS)
    assert found["throughput"]["origin"] == "calibrated"
    assert found["minutes"]["bottleneck"] == "compute"
    assert {one["devices"]: one["paper_minutes"] for one in found["curve"] if one["paper_minutes"]} == MINUTES[
        "vim_small"
    ]
    assert found["curve"][-1]["total_minutes"] == found["minutes"]["total_minutes"]
    assert found["not_as_in_table_3"] is None
    assert found["job"]["parameters"] == pytest.approx(26e6, rel=0.02)


def test_reading_that_is_too_slow_is_named_and_has_its_column(rmeeto_cli):
    options = ("--images-per-second", "330", "--decode-rate", "100", "--cores", "16")
    text = " ".join(rmeeto_cli("plan", "vim_small", *options).stdout.split())
    assert "Reading images is the bottleneck: the 16 cores of a node read 1,600 images/s" in text
    assert "waiting min" in text or "waiting" in text


def test_what_the_table_leaves_out_and_takes_for_granted_is_said(rmeeto_cli):
    options = (
        "--images-per-second",
        "330",
        "--images-per-step",
        "1152",
        "--batch",
        "384",
        "--gpus",
        "3",
        "--nodes",
        "3",
    )
    result = rmeeto_cli("plan", "vim_small", *options)
    rows = [line.split()[0] for line in result.stdout.splitlines() if " 1,152 " in line and "steps of" not in line]
    assert rows == ["1", "2", "3", "6", "9"]
    assert "a GPU is taken to be as fast per image with 128 images at a time as with 384" in result.stderr
    few = ("--images-per-second", "330", "--images-per-step", "12", "--batch", "6", "--gpus", "3", "--nodes", "2")
    assert "not in the table: 2 GPUs" not in rmeeto_cli("plan", "vim_small", *few).stderr
    odd = ("--images-per-second", "330", "--images-per-step", "18", "--batch", "18", "--gpus", "3", "--nodes", "3")
    assert (
        "not in the table: 2, 6 GPUs, which cannot share 18 images evenly"
        in rmeeto_cli("plan", "vim_small", *odd).stderr
    )


def test_a_core_is_measured_on_given_images(rmeeto_json, model_folder, pictures):
    options = ("--images-per-second", "9", "--data", pictures, "--images", "4096", "--cores", "3", "--gpus", "1")
    found = rmeeto_json("plan", model_folder, *options)
    assert found["reading"]["images_per_second"] > 1
    assert found["reading"]["cores"] == 3
    assert found["reduction"] == "merge:r=3"


def test_without_a_speed_some_steps_are_measured(rmeeto_cli, model_folder):
    options = ("--images", "4096", "--batch", "8", "--gpus", "2", "--eval-images", "0", "--epochs", "1")
    result = rmeeto_cli("plan", model_folder, *options, "--precision", "float32")
    assert "measured here, cpu" in result.stdout
    assert "training steps on cpu" in result.stderr
    assert "a GPU here stands for a processor like this one" in result.stderr


def test_a_measured_speed_comes_from_a_file(rmeeto_json, model_folder, tmp_path):
    bench = rmeeto_json("bench", model_folder, "--batch", 1, "--rounds", 5, "--no-memory", "--impl", "reference")
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(bench))
    found = rmeeto_json("plan", model_folder, "--from", path, "--images", "4096", "--gpus", "1")
    forward = bench["measurements"][1]["images_per_second"]["median"]
    assert found["throughput"]["images_per_second"] == pytest.approx(forward / 3)
    assert found["throughput"]["origin"] == "estimated"


def test_the_curve_is_drawn(rmeeto_cli, tmp_path):
    picture = tmp_path / "curve.png"
    assert f"wrote {picture}" in rmeeto_cli(*PAPERS, "--plot", picture).stdout.replace("\n", "")
    with Image.open(picture) as drawn:
        assert drawn.size == (1680, 720)


def test_transformers_are_planned_too(rmeeto_json):
    found = rmeeto_json("plan", "deit_tiny_patch16_224", "--reduce", "tome:r=8", "--images-per-second", "1000")
    assert found["job"]["parameters"] == pytest.approx(5.7e6, rel=0.01)
    assert "the paper has no" in found["not_as_in_table_3"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("vim_smal",), ("vim_small",)),
        (("vim_small", "--gpus", "0"), ("--gpus",)),
        (("vim_small", "--nodes", "-2"), ("--nodes",)),
        (("vim_small", "--link", "infinband", "--calibrate", "8=25"), ("infinband", "infiniband")),
        (("vim_small", "--inside", "pcie", "--calibrate", "8=25"), ("pcie4", "pcie5")),
        (("vim_small", "--images", "11263", "--images-per-second", "300"), ("11,264", "too few")),
        (("vim_small", "--reduce", "merge:r=500"), ("500",)),
        (("vim_small", "--images-per-second", "300", "--calibrate", "8=25"), ("--images-per-second and --calibrate",)),
        (("vim_small", "--images-per-second", "0"), ("above 0",)),
        (("vim_small", "--images-per-second", "nan"), ("finite",)),
        (("vim_small", "--images-per-second", "300", "--precision", "float32"), ("--precision",)),
        (("vim_small", "--calibrate", "25.2"), ("8=25.2",)),
        (("vim_small", "--calibrate", "8=0"), ("above 0",)),
        (("vim_small", "--calibrate", "12=20"), ("12 GPUs", "nodes of 8")),
        (("vim_small", "--calibrate", "8=0.1"), ("no GPU is fast enough",)),
        (("vim_small", "--passes", "2", "--images-per-step", "1024"), ("--images-per-step and --passes",)),
        (("vim_small", "--images-per-step", "1000", "--images-per-second", "3"), ("1024",)),
        (("vim_small", "--images-per-step", "128", "--gpus", "7", "--images-per-second", "3"), ("7 processes",)),
        (("vim_small", "--batch", "7", "--images-per-second", "3"), ("pairs",)),
        (("vim_small", "--cores", "8", "--images-per-second", "300"), ("--decode-rate",)),
        (("vim_small", "--decode-rate", "-1", "--images-per-second", "300"), ("above 0",)),
        (("vim_small", "--data", "x", "--decode-rate", "9"), ("--data and --decode-rate",)),
        (("vim_small", "--adapters", "8", "--bandwidth", "9"), ("--adapters and --bandwidth",)),
        (("vim_small", "--bandwidth", "0", "--images-per-second", "3"), ("above 0",)),
        (("vim_small", "--from", "nowhere.json"), ("nowhere.json", "no such file")),
        (("vim_small", "--plot", "curve.doc", "--images-per-second", "3"), (".doc", ".png")),
    ],
)
def test_impossible_requests_are_one_error_each(rmeeto_cli, options, words):
    result = rmeeto_cli("plan", *options, code=2)
    assert result.stdout == ""
    shown = " ".join(result.stderr.replace("│", " ").split())
    assert all(word in shown for word in words), result.stderr
