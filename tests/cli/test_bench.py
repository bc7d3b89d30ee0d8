import pytest


def test_a_table_with_a_verdict_for_each_reduction(rmeeto_cli, model_folder):
    options = ("--r", "0,2,5", "--batch", "1,2", "--rounds", 5, "--no-memory", "--impl", "reference")
    text = rmeeto_cli("bench", model_folder, *options).stdout
    assert text.count("merge:r=2:") == text.count("merge:r=5:") == 2
    assert "merge:r=0" not in text
    assert "FLOPs promise" in text
    assert "batch 2, float32" in text


def test_json_holds_what_the_table_shows(rmeeto_json, model_folder):
    found = rmeeto_json("bench", model_folder, "--batch", 1, "--rounds", 5, "--no-memory")
    assert [row["reduction"] for row in found["measurements"]] == ["none", "merge:r=3"]
    assert set(found["measurements"][1]["speedup"]) == {"median", "lower", "upper"}
    assert found["model"] == "toy"


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--batch", "0"), "'0'"),
        (("--batch", "1,x"), "'x'"),
        (("--r", "-1"), "'-1'"),
        (("--precision", "float17"), "float17"),
        (("--reduce", "merge:r=99"), "99"),
        (("--weights", "random"), "random"),
    ],
)
def test_impossible_requests(rmeeto_cli, model_folder, options, word):
    assert word in rmeeto_cli("bench", model_folder, *options, code=2).stderr
