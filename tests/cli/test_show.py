import pytest
from PIL import Image

import rmeeto
from toys import SIZES


def test_a_sheet_of_all_images_is_written(rmeeto_json, model_folder, pictures, tmp_path):
    output = tmp_path / "sheet.png"
    found = rmeeto_json("show", model_folder, pictures / "val/red", "--output", output)
    assert len(found["images"]) == 2
    assert found["tokens_at_block"] == {"2": 14}
    with Image.open(output) as sheet:
        assert sheet.width > 300
        assert sheet.height > 300


def test_chosen_blocks_and_reduction(rmeeto_json, model_folder, pictures, tmp_path):
    options = ("--reduce", "prune:r=2,blocks=all", "--blocks", "1,3", "--output", tmp_path / "a.pdf")
    found = rmeeto_json("show", model_folder, pictures / "val/red/0.png", *options)
    assert found["tokens_at_block"] == {"1": 15, "3": 11}


def test_impossible_requests_write_nothing(rmeeto_cli, model_folder, pictures, tmp_path):
    image = pictures / "val/red/0.png"
    for options, word in (
        (("--blocks", "9"), "block 9"),
        (("--blocks", "x"), "'x'"),
        (("--output", tmp_path / "a.xyz"), ".png"),
        (("--reduce", "merge:r=99"), "99"),
        (("--reduce", "merge:r=0"), "--reduce merge:r=11"),
    ):
        place = () if "--output" in options else ("--output", tmp_path / "a.png")
        assert word in rmeeto_cli("show", model_folder, image, *options, *place, code=2).stderr
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    pytest.importorskip("av", reason='reading video needs PyAV: pip install "rmeeto[video]"')
    from toy_clips import make_clip_folder

    return make_clip_folder(tmp_path_factory.mktemp("clips"), train=3, val=0)


@pytest.fixture(scope="module")
def video_folder(tmp_path_factory):
    model = rmeeto.create_model("videomamba_tiny", reduction="merge:r=9,blocks=all", num_classes=2, frames=4, **SIZES)
    return str(rmeeto.save_model(model, tmp_path_factory.mktemp("model"), name="toy"))


def test_clips_as_strip_and_films(rmeeto_json, rmeeto_cli, video_folder, clips, tmp_path):
    found = rmeeto_json("show", video_folder, clips / "train/left", "--blocks", "3", "-o", tmp_path / "strip.png")
    assert [path.rsplit("/")[-1] for path in found["clips"]] == ["0.mp4", "1.mp4", "2.mp4"]
    with Image.open(tmp_path / "strip.png") as sheet:
        assert sheet.width > 4 * 300
    for name in ("film.gif", "film.mp4"):
        rmeeto_cli("show", video_folder, clips / "train/left/0.mp4", "--blocks", "3", "-o", tmp_path / name)
        assert (tmp_path / name).stat().st_size > 1000
    assert "the first 4 of 6 clips" in rmeeto_cli("show", video_folder, clips, "-o", tmp_path / "all.png").stderr


def test_clips_are_predicted(rmeeto_json, video_folder, clips):
    found = rmeeto_json("predict", video_folder, clips)["predictions"]
    assert len(found) == 6
    assert all(len(prediction["guesses"]) == 2 for prediction in found)


def test_images_for_a_video_model(rmeeto_cli, video_folder, pictures):
    pytest.importorskip("av", reason='reading video needs PyAV: pip install "rmeeto[video]"')
    assert "read the clips in" in rmeeto_cli("predict", video_folder, pictures, code=2).stderr
    assert "a picture, not a video" in rmeeto_cli("predict", video_folder, pictures / "val/red/0.png", code=1).stderr
