import pytest

from toys import make_folder, truncate


@pytest.fixture
def clips(tmp_path):
    from toy_clips import make_clip_folder

    return make_clip_folder(tmp_path / "clips", train=2, val=1, count=5)


def test_sound_images(rmeeto_json, pictures):
    report = rmeeto_json("data", "check", pictures, "--workers", 0)
    assert report["healthy"]
    train, val = report["splits"]
    assert (train["split"], val["split"], train["kind"]) == ("train", "val", "images")
    assert [(item["name"], item["items"]) for item in train["classes"]] == [("blue", 4), ("green", 4), ("red", 4)]
    assert train["classes"][0]["width"] == [20, 20]


def test_a_broken_image_is_named_and_changes_the_exit_code(rmeeto_cli, rmeeto_json, tmp_path):
    root = make_folder(tmp_path / "toys", train=2, val=2)
    broken = truncate(root / "val" / "green" / "1.png")
    report = rmeeto_json("data", "check", root, "--workers", 0, code=1)
    assert not report["healthy"]
    assert [item["broken"] for item in report["splits"][1]["classes"]] == [0, 1, 0]
    assert report["splits"][1]["broken"][0].startswith(str(broken))
    shown = rmeeto_cli("data", "check", root, "--workers", 0, code=1)
    assert str(broken) in shown.stderr
    assert "green" in shown.stdout


def test_sound_clips(rmeeto_json, rmeeto_cli, clips):
    report = rmeeto_json("data", "check", clips, "--workers", 0)
    assert [split["kind"] for split in report["splits"]] == ["clips", "clips"]
    left = report["splits"][0]["classes"][0]
    assert (left["items"], left["width"], left["height"], left["frames"]) == (2, [48, 48], [32, 32], [5, 5])
    shown = rmeeto_cli("data", "check", clips, "--workers", 0).stdout
    assert "48 × 32" in shown


def test_broken_clips_and_wrong_lines(rmeeto_json, clips):
    from toy_clips import cut, sound_only

    cut(clips / "train" / "left" / "0.mp4")
    sound_only(clips / "train" / "right" / "0.mp4")
    (clips / "train.csv").write_text(
        "train/left/0.mp4,0\ntrain/left/1.mp4 0\ntrain/right/0.mp4,1\ntrain/up/0.mp4,1\ntrain/left/1.mp4,x\n"
    )
    (train,) = rmeeto_json("data", "check", clips, "--workers", 0, code=1)["splits"]
    assert [item["items"] for item in train["classes"]] == [2, 1]
    reasons = [line.removeprefix(str(clips)) for line in train["broken"]]
    assert len(reasons) == 4
    for reason, words in zip(
        reasons, (":4: there is no file", ":5: label 'x'", "left/0.mp4", "only audio"), strict=True
    ):
        assert words in reason


def test_a_single_split_is_enough(rmeeto_json, pictures):
    (only,) = rmeeto_json("data", "check", pictures / "val", "--workers", 0)["splits"]
    assert only["split"] == "val"


def test_of_many_classes_only_those_with_problems_are_shown(rmeeto_cli, tmp_path):
    colours = {f"colour{number:03}": (number, 90, 90) for number in range(40)}
    root = make_folder(tmp_path / "toys", train=1, val=0, colours=colours)
    truncate(root / "train" / "colour007" / "0.png")
    for name in colours:
        (root / "val" / name).rmdir()
    (root / "val").rmdir()
    shown = rmeeto_cli("data", "check", root, "--workers", 0, code=1).stdout
    assert "colour007" in shown
    assert "colour008" not in shown
    assert "39 classes without problems" in shown


def test_nothing_there(rmeeto_cli, tmp_path):
    assert "no such folder" in rmeeto_cli("data", "check", tmp_path / "none", code=2).stderr
