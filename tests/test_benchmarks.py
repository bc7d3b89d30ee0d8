"""The logic of the benchmarks; no speed is tested."""

import contextlib
import importlib
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "benchmarks"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the benchmarks are not in this tree")


@pytest.fixture
def benchmark(monkeypatch):
    """``benchmark(name)`` imports one of benchmarks/, whose modules find each other as they do when run."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


@pytest.fixture
def timing(benchmark, monkeypatch, tmp_path):
    """``_timing`` with one operation whose tests pass and one whose tests do not."""
    timing = benchmark("_timing")
    files = {name: tmp_path / f"test_{name}.py" for name in ("right", "wrong")}
    files["right"].write_text("def test_it():\n    assert True\n")
    files["wrong"].write_text("def test_it():\n    assert 1 == 2\n")
    own_settings = ["-c", "/dev/null", "--rootdir", str(tmp_path)]
    monkeypatch.setattr(timing, "TESTS", {name: [*own_settings, str(file)] for name, file in files.items()})
    monkeypatch.delenv(timing.GREEN, raising=False)
    return timing


def test_red_tests_of_an_operation_forbid_its_speed(timing):
    timing.refuse_if_red(["right"])
    with pytest.raises(SystemExit, match=r"tests of wrong are red(?s:.*)1 == 2"):
        timing.refuse_if_red(["right", "wrong"])


def test_tests_seen_green_by_a_run_of_all_are_not_repeated(timing, monkeypatch):
    monkeypatch.setenv(timing.GREEN, "right,wrong")
    timing.refuse_if_red(["right", "wrong"])


def test_every_operation_has_its_tests(benchmark):
    timing = benchmark("_timing")
    for arguments in timing.TESTS.values():
        assert (ROOT / arguments[0]).is_file()
    for device in ("cpu", "cuda"):
        assert set(timing.operations_of_a_model(torch.device(device))) <= timing.TESTS.keys()


def test_times_say_how_they_were_taken(benchmark):
    calls = []
    times = benchmark("_timing").compare({"a": lambda: calls.append(1)}, rounds=6, warm_up=3)["a"]
    assert (times["rounds"], times["warm_up"], len(calls)) == (6, 3, 9)
    assert times["best_ms"] <= times["lower_quartile_ms"] <= times["median_ms"] <= times["upper_quartile_ms"]


def test_the_machine_is_described(benchmark):
    described = benchmark("_timing").describe_machine()
    assert described["torch"] == torch.__version__
    assert {"date", "device", "processor", "threads", "instruction_set", "python", "rmeeto"} <= described.keys()


def test_fitted_exponents_are_the_powers(benchmark):
    exponent = benchmark("growth").exponent
    places = [197, 785, 12545]
    assert exponent(places, [3 * x**1.5 for x in places]) == pytest.approx(1.5)
    assert exponent(places, [1.0, None, 2.0]) is None
    assert exponent([8, 8], [1.0, 2.0]) is None


def test_activations_of_a_block_are_its_fullest_moment(benchmark):
    import rmeeto

    config = rmeeto.create_model("videomamba_tiny_video", depth=1).config
    # residual; u and gate; first output; convolved u; low-rank delta, B and C; delta; second output
    floats = 192 + 768 + 384 + 384 + (12 + 16 + 16) + 384 + 384
    assert benchmark("growth").block_activations_bytes(config, 12545) == 4 * 12545 * floats


@pytest.fixture
def losses(benchmark, monkeypatch):
    """``losses(peer)``: of the reference and of a model with the peer's scan, a few steps each."""
    training = benchmark("training")
    monkeypatch.setattr(sys, "argv", ["training.py", "--model", "vim_digits", "--image", "16"])
    options = training.parse_arguments()

    def run(peer):
        kernels, theirs = (
            training.Training(name, options, 2, depth=2).losses(3) for name in (training.REFERENCE, peer)
        )
        return {training.KERNELS: kernels, peer: theirs}

    return run


@pytest.mark.parametrize("peer", ["textbook loop", "mambapy parallel scan"])
def test_a_model_with_a_peers_scan_learns_alike(benchmark, losses, peer):
    if peer not in benchmark("_peers").find_peers(torch.device("cpu")):
        pytest.skip("mambapy is not installed")
    training = benchmark("training")
    assert training.largest_difference(losses(peer)) < training.SAME_LOSS


def test_a_model_with_a_wrong_scan_does_not(benchmark, losses, monkeypatch):
    training, loop = benchmark("training"), benchmark("_peers").textbook_loop
    monkeypatch.setattr(training, "find_peers", lambda device: {"wrong": lambda *inputs: 1.1 * loop(*inputs)})
    assert training.largest_difference(losses("wrong")) > training.SAME_LOSS


def test_a_different_loss_is_noticed(benchmark):
    training = benchmark("training")
    losses = {training.KERNELS: [2.0, 1.0], "peer": [2.0, 1.001]}
    assert training.largest_difference(losses) == pytest.approx(1e-3)


@pytest.fixture
def run_script(benchmark, monkeypatch, tmp_path):
    """``run_script(source, seconds)`` runs it as all.py runs a benchmark."""
    everything = benchmark("all")
    monkeypatch.setattr(everything, "HERE", tmp_path / "benchmarks")
    (tmp_path / "benchmarks").mkdir()

    def run(source, seconds=60.0):
        (tmp_path / "benchmarks/scan.py").write_text(source)
        return everything.run(everything.Job("scan", "", "", (), 1.0), False, {}, time.monotonic() + seconds)

    return run


def test_a_benchmark_that_fails_or_hangs_is_named(run_script, benchmark, capsys):
    failed = run_script("raise SystemExit('no compiler')")
    hung = run_script("import time; time.sleep(60)", seconds=1.0)
    late = run_script("", seconds=0.0)
    silent = run_script("print('done')")
    good = run_script("print('a table')\nprint('{\"times\": {}}')")
    assert "no compiler" in failed.problem
    assert "stopped after 1 s" in hung.problem
    assert "no time" in late.problem
    assert "no result" in silent.problem
    assert (good.result, good.problem) == ({"times": {}}, None)
    benchmark("all").print_summary([failed, good])
    assert "NOT MEASURED  it ended with 1: no compiler" in capsys.readouterr().out


def test_results_elsewhere_are_read(benchmark, tmp_path):
    path = tmp_path / "gpu_check.json"
    path.write_text(json.dumps({"rows": []}))
    assert benchmark("all").read_result(f"written: {path}") == {"rows": []}


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_every_job_exists_and_has_a_headline(benchmark, device):
    for job in benchmark("all").jobs_of(torch.device(device), 2, Path("growth.svg")):
        assert (FOLDER / f"{job.script}.py").is_file()
        assert job.script in benchmark("_summary").HEADLINES


# ---- neighbours


def is_alive(process):
    """Whether a process runs: an ended process whose status has not been read does not count."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="this system has no /proc")


@needs_proc
@pytest.mark.parametrize("end", [None, KeyboardInterrupt, SystemExit])
def test_neighbours_end_with_the_block(benchmark, monkeypatch, end):
    module = benchmark("_neighbours")
    monkeypatch.setattr(module, "SETTLE_SECONDS", 0.0)
    with contextlib.suppress(KeyboardInterrupt, SystemExit), module.neighbours(2) as processes:
        assert len(processes) == 2
        assert all(is_alive(process) for process in processes)
        if end:
            raise end
    assert not any(is_alive(process) for process in processes)


@needs_proc
def test_neighbours_end_with_a_killed_parent():
    program = "import _neighbours\nwith _neighbours.neighbours(2) as ids: print(*ids, flush=True); input()"
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, cwd=FOLDER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        processes = [int(word) for word in parent.stdout.readline().split()]
        assert len(processes) == 2
        parent.kill()
    end = time.monotonic() + 20
    while any(is_alive(process) for process in processes):
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("threads", "neighbours", "cores", "multiple"),
    [(2, 0, 2, 1), (2, 1, 2, 1.5), (2, 4, 2, 3), (2, 1, 4, 1), (4, 4, 2, 2)],
)
def test_a_fair_share_of_the_cores(benchmark, threads, neighbours, cores, multiple):
    assert benchmark("_neighbours").fair_multiple(threads, neighbours, cores) == multiple


def test_multiples_are_of_the_quiet_time(benchmark, monkeypatch):
    busy = benchmark("busy")
    monkeypatch.setattr(busy, "cores", lambda: 2)
    quiet, with_two = busy.report({"model": {0: [10.0, 11.0, 12.0], 2: [20.0, 22.0, 99.0]}}, threads=2)
    assert (quiet["multiple"], quiet["fair_multiple"]) == (1, 1)
    assert (with_two["multiple"], with_two["fair_multiple"], with_two["worst_ms"]) == (2, 2, 99)
    assert list(benchmark("_summary").of_busy({"rows": [quiet, with_two]})) == [
        ("model, 2 busy neighbours: multiple of the quiet time", "2.00 (fair 2.00)")
    ]
