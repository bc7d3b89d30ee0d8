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


AGAINST = ("--against", "test_vit", "--sizes", "32,16", "--batch", "1", "--rounds", 5, "--seconds", 0)


@pytest.fixture
def no_engines(monkeypatch):
    """PyTorch is the only engine, whatever is installed."""
    monkeypatch.setattr("rmeeto.speed.engines.find_spec", lambda package: None)


def test_against_a_rival_there_is_a_table_a_sentence_and_a_picture(rmeeto_cli, no_engines, tmp_path):
    picture = tmp_path / "a.svg"
    text = rmeeto_cli("bench", "vim_digits", *AGAINST, "--r", 1, "--plot", picture).stdout
    text = " ".join(text.split())  # lines are folded
    assert "16 px" in text
    assert "32 px" in text
    assert 'OpenVINO: needs onnx, onnxscript, openvino: pip install "rmeeto[engines]"' in text
    assert text.count("faster than test_vit in its fastest engine") == 2
    assert "not measured: ONNX Runtime, OpenVINO" in text
    assert "<svg" in picture.read_text()


def test_against_a_rival_json_holds_every_round(rmeeto_json, no_engines):
    found = rmeeto_json("bench", "vim_digits", *AGAINST)
    assert [len(row["milliseconds"]) for row in found["timings"] if row["absent"] is None] == [5] * 4
    assert {row["size"] for row in found["timings"]} == {16, 32}
    assert [row["variant"] for row in found["verdicts"]] == ["none"]


@pytest.mark.filterwarnings("ignore::rmeeto.errors.RmeetoWarning")  # the position table is resampled
def test_the_default_reduction_is_the_same_share_at_every_size(rmeeto_json, no_engines, model_folder):
    found = rmeeto_json("bench", model_folder, *AGAINST)
    assert {row["variant"] for row in found["timings"] if row["ours"]} == {"none", "merge:ratio=0.09"}


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--sizes", "32"), "--against"),
        (("--plot", "a.svg"), "--against"),
        ((*AGAINST, "--compile"), "--compile"),
        ((*AGAINST, "--record"), "--record"),
        ((*AGAINST, "--weights", "w.pth"), "--weights"),
        ((*AGAINST, "--plot", "a.txt"), ".txt"),
        ((*AGAINST[:2], "--sizes", "32,x"), "'x'"),
        ((*AGAINST[:2], "--sizes", "20"), "test_vit at 20 px"),
        (("--against", "test_vitt"), "test_vit"),
        ((*AGAINST, "--precision", "float17"), "float17"),
    ],
)
def test_impossible_requests_against_a_rival(rmeeto_cli, options, word):
    assert word in rmeeto_cli("bench", "vim_digits", *options, code=2).stderr
