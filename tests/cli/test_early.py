"""What can be refused is refused before the first long step, and says what to do."""

import importlib

import pytest

from toys import picture


@pytest.fixture(autouse=True)
def _nothing_long_begins(monkeypatch):
    # a module that is imported while another is patched would keep what stands there for good
    for name in ("evaluation", "tuning", "predict", "bench", "models.factory", "training"):
        importlib.import_module(f"rmeeto.{name}")

    def begun(*arguments, **options):
        raise AssertionError("the long work began")

    for place in (
        "rmeeto.evaluation.evaluate",
        "rmeeto.tuning.tune",
        "rmeeto.evaluation.prediction.predict",
        "rmeeto.speed.bench",
    ):
        monkeypatch.setattr(place, begun)
    monkeypatch.setattr("rmeeto.models.factory.fresh_model", begun)


TOO_MUCH = ("--reduce", "merge:r=200")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("eval", "{model}", "--data", "{data}", *TOO_MUCH), "at most half"),
        (("eval", "{model}", "--data", "{data}", "--precision", "float8"), "float32"),
        (("bench", "{model}", *TOO_MUCH), "at most half"),
        (("predict", "{model}", "{data}", *TOO_MUCH), "at most half"),
        (("predict", "{model}", "nowhere.jpg"), "no such file"),
        (("show", "{model}", "{data}", *TOO_MUCH), "at most half"),
        (("show", "{model}", "{data}", "-o", "/dev/null/x.png"), "not a folder"),
        (("show", "{model}", "{data}", "-o", "{folder}.png"), "it is a folder"),
        (("tune", "{model}", "--data", "{data}", "--gflops", "0.00000001"), "ask for less"),
        (("tune", "{model}", "--data", "{data}", "--ratio", "0.3", "-o", "/dev/null/x.json"), "not a folder"),
        (("tune", "{model}", "--data", "{data}", "--ratio", "0.3", "-o", "{folder}.png"), "it is a folder"),
        (("tune", "{model}", "--data", "{data}"), "--gflops 3.6, --fewer 1.4 or --ratio 0.3"),
        (("tune", "{model}", "--data", "{data}", "--reduce", "none"), "no schedule"),
        (("flops", ""), "its name"),
    ],
)
def test_what_cannot_be_is_refused_first(rmeeto_cli, model_folder, pictures, tmp_path, arguments, words):
    (tmp_path / "folder.png").mkdir()
    names = {"model": model_folder, "data": pictures, "folder": tmp_path / "folder"}
    shown = " ".join(rmeeto_cli(*(text.format(**names) for text in arguments), code=2).stderr.split())
    assert words in shown


def test_a_picture_beside_is_not_touched(rmeeto_cli, model_folder, tmp_path):
    picture((1, 2, 3), 0).save(tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    rmeeto_cli("show", model_folder, tmp_path / "a.png", "--output", tmp_path / "a.png", *TOO_MUCH, code=2)
    assert (tmp_path / "a.png").read_bytes() == before
