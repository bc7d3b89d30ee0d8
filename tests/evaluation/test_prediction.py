import json

import pytest
import torch

import rmeeto
from rmeeto.errors import ConfigError, DataError
from rmeeto.evaluation.prediction import (
    class_names,
    find_files,
    predict,
    read_class_names,
    read_clip,
    read_image,
    saved_class_names,
)
from toys import SIZES, picture, truncate


@pytest.fixture
def folder(tmp_path):
    for number in range(3):
        picture((40 * number, 90, 200), seed=number).save(tmp_path / f"{number}.png")
    (tmp_path / "deep").mkdir()
    picture((9, 9, 9), seed=9).save(tmp_path / "deep" / "x.JPG", format="jpeg")
    (tmp_path / "notes.txt").write_text("not an image")
    return tmp_path


@pytest.fixture
def model():
    return rmeeto.create_model("vim_tiny", num_classes=3, **SIZES)


def test_files_folders_and_patterns(folder):
    every = ["0.png", "1.png", "2.png", "deep/x.JPG"]
    assert [str(path.relative_to(folder)) for path in find_files([str(folder)])] == every
    found = find_files([str(folder / "2.png"), str(folder / "*.png"), str(folder / "deep")])
    assert [path.name for path in found] == ["2.png", "0.png", "1.png", "x.JPG"]
    assert find_files([str(folder / "notes.txt")]) == [folder / "notes.txt"]


@pytest.mark.parametrize("place", ["missing.png", "missing/*.png", "deep/nothing-*"])
def test_places_without_images(folder, place):
    with pytest.raises(DataError):
        find_files([str(folder / place)])


def test_probabilities_are_sorted_and_the_models(folder, model):
    paths = find_files([str(folder)])
    found = list(predict(model, paths, top=3, batch_size=2, names=["a", "b", "c"]))
    assert [prediction.image for prediction in found] == [str(path) for path in paths]
    for prediction in found:
        probabilities = [guess.probability for guess in prediction.guesses]
        assert probabilities == sorted(probabilities, reverse=True)
        assert sum(probabilities) == pytest.approx(1)
        assert all(guess.name == "abc"[guess.label] for guess in prediction.guesses)


def test_a_path_may_be_a_string(folder, model):
    (prediction,) = rmeeto.predict(model, [str(folder / "1.png")])
    assert prediction.image == str(folder / "1.png")
    assert len(prediction.guesses) == 3


def test_batches_do_not_change_the_answer(folder, model):
    paths = find_files([str(folder)])
    one, all_together = (list(predict(model, paths, batch_size=size)) for size in (1, 4))
    for alone, together in zip(one, all_together, strict=True):
        assert [g.label for g in alone.guesses] == [g.label for g in together.guesses]
        assert alone.guesses[0].probability == pytest.approx(together.guesses[0].probability, abs=1e-5)


def test_top_is_cut_to_the_classes(folder, model):
    assert len(next(predict(model, find_files([str(folder / "0.png")]), top=9)).guesses) == 3


def test_a_broken_image_is_named_in_its_place(folder, model):
    truncate(folder / "1.png")
    good, broken, *_ = predict(model, find_files([str(folder / "*.png")]))
    assert good.error is None
    assert broken.image.endswith("1.png")
    assert broken.error
    assert broken.guesses == ()
    with pytest.raises(DataError, match=r"1\.png"):
        read_image(folder / "1.png")


def test_only_broken_images(folder, model):
    (only,) = predict(model, find_files([str(folder / "notes.txt")]))
    assert only.error


def test_imagenet_has_names_and_others_have_numbers():
    names = class_names(1000)
    assert (names[0].split(",")[0], names[207].split(",")[0]) == ("tench", "golden retriever")
    assert class_names(2) == ["class 0", "class 1"]


def test_names_must_fit_the_classes(folder, model):
    with pytest.raises(ConfigError, match="2 names"):
        predict(model, find_files([str(folder)]), names=["a", "b"])


def test_names_from_files(tmp_path):
    (tmp_path / "a.txt").write_text("cat\ndog\n")
    (tmp_path / "a.json").write_text('["cat", "dog"]')
    assert read_class_names(tmp_path / "a.txt") == read_class_names(tmp_path / "a.json") == ["cat", "dog"]
    for name, content in (("empty.txt", ""), ("gap.txt", "a\n\nb"), ("b.json", "{}"), ("c.json", "[")):
        (tmp_path / name).write_text(content)
        with pytest.raises(DataError, match=name):
            read_class_names(tmp_path / name)
    with pytest.raises(DataError, match="missing"):
        read_class_names(tmp_path / "missing")


def test_names_saved_with_a_model(tmp_path, model):
    rmeeto.save_model(model, tmp_path / "named", metadata={"classes": json.dumps(["a", "b", "c"])})
    rmeeto.save_model(model, tmp_path / "plain")
    assert saved_class_names(tmp_path / "named") == ["a", "b", "c"]
    assert saved_class_names(tmp_path / "plain") is None
    assert saved_class_names(tmp_path) is None


def test_predicting_leaves_no_gradient(folder, model):
    list(predict(model, find_files([str(folder)])))
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.is_grad_enabled()


@pytest.fixture
def clips(tmp_path):
    pytest.importorskip("av", reason='reading video needs PyAV: pip install "rmeeto[video]"')
    from toy_clips import cut, make_clip_folder

    root = make_clip_folder(tmp_path / "clips", train=2, val=0)
    cut(root / "train" / "left" / "1.mp4")
    (root / "train" / "left" / "thumbnail.png").write_bytes(b"")
    return root


@pytest.fixture
def video_model():
    return rmeeto.create_model("videomamba_tiny", num_classes=2, frames=4, **SIZES)


def test_clips_are_predicted_from_an_evaluations_frames(clips, video_model):
    from rmeeto.data import CLIPS, ONE_VIEW, Preparation, evaluation_reading, open_data

    paths = find_files([str(clips)], CLIPS)
    assert [path.name for path in paths] == ["0.mp4", "1.mp4", "0.mp4", "1.mp4"]
    found = list(predict(video_model, paths, names=["left", "right"], batch_size=2))
    assert [prediction.error is None for prediction in found] == [True, False, True, True]
    source = open_data(clips, "train")
    reading = evaluation_reading(source, Preparation.of(video_model), ONE_VIEW)
    with torch.no_grad():
        expected = video_model(reading.transform(reading.read(2))).softmax(-1).max().item()
    assert found[2].guesses[0].probability == pytest.approx(expected, abs=1e-5)


def test_a_clip_is_read_whole_or_named(clips, video_model):
    assert read_clip(video_model, clips / "train" / "left" / "0.mp4").shape == (3, 4, 16, 16)
    with pytest.raises(DataError, match=r"left/1\.mp4"):
        read_clip(video_model, clips / "train" / "left" / "1.mp4")


def test_images_are_not_what_a_video_model_finds(folder, video_model):
    from rmeeto.data import CLIPS

    with pytest.raises(DataError, match=r"read the clips .*\n.*\.mp4"):
        find_files([str(folder)], CLIPS)
