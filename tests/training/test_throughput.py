"""Training speeds: from files of ours, and from steps that are timed."""

import itertools
import json
import statistics

import pytest

import rmeeto
from rmeeto.errors import ConfigError, RunError
from rmeeto.models.description import describe
from rmeeto.reduction import parse_reduction
from rmeeto.training import load_throughput, measure_throughput, retrain
from rmeeto.training.runlog import read_log
from toys import SIZES, make_folder, toy_recipe

MERGE = parse_reduction("merge:r=3")
START = {"event": "start", "step": 0, "processes": 4, "device": "NVIDIA H100", "precision": "bfloat16"}


def step(number, speed, waiting=0.0):
    return {"event": "step", "step": number, "images_per_second": speed, "data_wait_share": waiting}


@pytest.fixture
def sizes():
    return rmeeto.create_model("vim_tiny", num_classes=3, **SIZES).config


@pytest.fixture
def run_of(tmp_path):
    """The folder of a run with these records."""

    def write(*records, **changes):
        recipe = toy_recipe("data", tmp_path, **{"reduction": "merge:r=3", "accumulate": 4, **changes})
        (tmp_path / "recipe.toml").write_text(recipe.to_toml())
        (tmp_path / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        return tmp_path

    return write


def test_a_real_run_tells_its_speed(tmp_path):
    data = make_folder(tmp_path / "data", train=8, val=2)
    folder = tmp_path / "run"
    retrain(toy_recipe(data, folder, reduction="merge:r=3"))
    found = load_throughput(folder, describe(str(folder)).config, MERGE)
    logged = [
        record["images_per_second"] / (1 - record["data_wait_share"])
        for record in read_log(folder / "log.jsonl")
        if record["event"] == "step"
    ]
    assert found.images_per_second == pytest.approx(statistics.median(logged[1:]))
    assert found.origin == "measured"
    assert found.batch == 8
    assert load_throughput(folder / "results.json", describe(str(folder)).config, MERGE) == found


def test_the_speed_of_one_process_without_its_waiting(run_of, sizes):
    folder = run_of(START, step(1, 9.0), step(2, 400.0, 0.5), step(3, 800.0), step(4, 760.0, 0.05))
    found = load_throughput(folder, sizes, MERGE)
    assert found.images_per_second == pytest.approx(200)
    assert "NVIDIA H100, bfloat16, one of 4 processes" in found.source
    assert load_throughput(folder / "log.jsonl", sizes, MERGE).images_per_second == pytest.approx(200)


def test_steps_before_a_change_of_processes_do_not_count(run_of, sizes):
    resumed = {**START, "event": "resume", "step": 2, "processes": 1}
    folder = run_of(START, step(1, 400.0), step(2, 400.0), resumed, step(3, 1.0), step(4, 50.0))
    assert load_throughput(folder, sizes, MERGE).images_per_second == 50


def test_a_run_with_another_reduction_is_scaled_by_the_flops(run_of, sizes):
    folder = run_of(START, step(1, 400.0), reduction="none")
    found = load_throughput(folder, sizes, MERGE)
    assert found.images_per_second > 100
    assert found.origin == "estimated"
    assert "scaled by the FLOPs" in found.source


def test_a_run_of_another_model_is_refused(run_of, sizes):
    folder = run_of(START, step(1, 400.0))
    with pytest.raises(ConfigError, match="the model that is planned is another one"):
        load_throughput(folder, describe("vim_small").config, MERGE)


@pytest.mark.parametrize("records", [(), (START,), (START, step(1, "fast")), (START, step(1, 0.0), step(2, 3.0, 1.0))])
def test_a_log_without_a_speed_is_refused(run_of, sizes, records):
    with pytest.raises(RunError, match="no line of a training step"):
        load_throughput(run_of(*records), sizes, MERGE)


def test_a_run_without_its_log_or_its_recipe_is_refused(run_of, sizes):
    folder = run_of(START, step(1, 400.0))
    (folder / "recipe.toml").unlink()
    with pytest.raises(RunError, match=r"recipe\.toml"):
        load_throughput(folder, sizes, MERGE)
    (folder / "log.jsonl").unlink()
    with pytest.raises(RunError, match=r"log\.jsonl"):
        load_throughput(folder, sizes, MERGE)


TRAINING = {
    "model": "vim_tiny",
    "reduction": None,
    "shape": [8, 3, 224, 224],
    "dtype": "float32",
    "gpu": None,
    "processor": "AMD EPYC",
    "threads": 2,
    "images_per_second": {"kernels": 11.31, "reference": 1.56},
}
BENCH = {
    "model": "vim_tiny",
    "device": "cpu",
    "measurements": [
        {
            "reduction": line,
            "batch": batch,
            "precision": "float32",
            "gflops_exact": gflops,
            "images_per_second": {"median": speed},
        }
        for line, batch, gflops, speed in [
            ("none", 1, 2.975, 30.0),
            ("merge:r=5", 1, 2.0, 33.0),
            ("merge:r=5", 8, 2.0, 36.0),
        ]
    ],
}


@pytest.fixture
def file_with(tmp_path):
    def write(content):
        path = tmp_path / "content.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


def test_a_result_of_the_training_benchmark(file_with):
    found = load_throughput(file_with(TRAINING), describe("vim_tiny").config, None)
    assert (found.images_per_second, found.origin, found.batch) == (11.31, "measured", 8)
    assert found.source.endswith("AMD EPYC, 2 threads, float32")
    smaller = file_with(TRAINING | {"shape": [8, 3, 112, 112]})
    with pytest.raises(ConfigError, match="another one"):
        load_throughput(smaller, describe("vim_tiny").config, None)


def test_a_result_of_bench_counts_a_third_of_its_fastest_forward_passes(file_with):
    from rmeeto.cost import count

    config, merge = describe("vim_tiny").config, parse_reduction("merge:r=5")
    flops = {line: count(config, parse_reduction(line)).total / 1e9 for line in ("none", "merge:r=5", "merge:r=11")}
    rows = [row | {"gflops_exact": flops[row["reduction"]]} for row in BENCH["measurements"]]
    path = file_with(BENCH | {"measurements": rows})
    found = load_throughput(path, config, merge)
    assert (found.images_per_second, found.origin, found.batch) == (12, "estimated", 8)
    assert "training itself was not measured" in found.source
    other = load_throughput(path, config, parse_reduction("merge:r=11"))
    assert other.images_per_second == pytest.approx(10 * flops["none"] / flops["merge:r=11"])
    with pytest.raises(ConfigError, match="another one"):
        load_throughput(path, describe("vim_small").config, merge)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not JSON"),
        ("[1]", "not a JSON object"),
        ({"rmeeto": 1}, "neither a run nor a measurement"),
        ({**TRAINING, "images_per_second": {"reference": 1.5}}, 'no speed of "kernels"'),
        ({**TRAINING, "shape": 3}, "damaged"),
        ({**BENCH, "measurements": []}, "neither merge:r=3 nor none"),
        ({**BENCH, "measurements": [{"reduction": "none"}]}, "damaged"),
        ({"rows": [], "recipe": ""}, "log.jsonl"),
    ],
)
def test_a_file_without_a_speed_is_refused(file_with, sizes, content, words):
    with pytest.raises(RunError, match=words):
        load_throughput(file_with(content), sizes, MERGE)


def test_steps_are_timed_on_noise():
    model = rmeeto.create_model("vim_tiny", reduction="merge:r=3", num_classes=3, **SIZES)
    seconds = itertools.count(step=4)  # every look at the clock is 4 s after the last
    found = measure_throughput(model, batch=64, rounds=6, budget_seconds=1e9, clock=lambda: next(seconds))
    assert found.images_per_second == 2  # on a processor 8 images a step
    assert found.origin == "measured"
    assert "8 images a step, median of 6 steps" in found.source


def test_steps_whose_work_depends_on_the_images_are_not_timed_on_noise():
    model = rmeeto.create_model("vim_tiny", reduction="similar-merge:r=3,threshold=0.9", num_classes=3, **SIZES)
    with pytest.raises(ConfigError, match="depends on the images"):
        measure_throughput(model, batch=8)
