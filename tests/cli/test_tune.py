"""tune on the command line: budgets as options, a file that other verbs read."""

import json


def test_tune_writes_what_reduce_reads(rmeeto_cli, rmeeto_json, model_folder, pictures, tmp_path):
    file = tmp_path / "schedule.json"
    options = ("--data", pictures, "--images", 4, "--evaluations", 4, "-j", 0)
    text = rmeeto_cli("tune", model_folder, *options, "--ratio", 0.2, "--reduce", "merge:features=C", "-o", file).stdout
    saved = json.loads(file.read_text())
    assert saved["given"] == "merge:ratio=0.2,features=C"
    assert saved["reduction"] in text
    assert "no higher cost" in text
    (one,) = rmeeto_json("flops", model_folder, "--reduce", f"@{file}")["reductions"]
    assert one["reduction"] == saved["reduction"]
    assert one["tokens"] == saved["tokens"]


def test_tune_prints_one_json_object(rmeeto_json, model_folder, pictures):
    found = rmeeto_json("tune", model_folder, "--data", pictures, "--fewer", 1.1, "--evaluations", 2, "-j", 0)
    assert found["scores"][2]["gflops_exact"] <= found["scores"][0]["gflops_exact"] / 1.1


def test_a_budget_and_data_are_needed(rmeeto_cli, model_folder, pictures):
    assert "exactly one of" in rmeeto_cli("tune", model_folder, "--data", pictures, code=2).stderr
    assert "nothing says on which images" in rmeeto_cli("tune", model_folder, "--ratio", 0.2, code=2).stderr
