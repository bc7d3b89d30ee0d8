"""The C library's format: a folder that runs without rmeeto, and the same gate as for every other format."""

import numpy as np
import pytest
import torch
from PIL import Image

import rmeeto
from cpp_kernels import needs_kernels
from rmeeto.data import Preparation, evaluation_transform
from rmeeto.errors import ConfigError, RmeetoError
from rmeeto.exporting import native_format
from rmeeto.exporting.native_format import between
from rmeeto.exporting.parity import ParityError
from tiny_exports import images_of, run_alone, transformer, video, vim
from toys import COLOURS, picture

pytestmark = needs_kernels


def test_a_folder_runs_without_rmeeto_and_torch(tmp_path):
    model = vim("merge:r=3,blocks=all", depth=2)
    parity = rmeeto.export(model, tmp_path / "out", format="native", count=1, maps=True).parity
    assert [(row.runtime, row.batch) for row in parity.rows] == [("librmeeto", 1), ("librmeeto", 3)]
    assert all(row.plans_equal == row.inputs for row in parity.rows)
    assert "with_map" in (tmp_path / "out/README.md").read_text()
    picture(COLOURS["red"], seed=1, size=50).save(tmp_path / "red.png")
    run_alone(tmp_path / "out", tmp_path / "red.png", "--logits", tmp_path / "logits.npy")
    image = evaluation_transform(Preparation.of(model), glyphs=False)(Image.open(tmp_path / "red.png"))
    with torch.inference_mode():
        logits = model(image[None])[0]
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy")[0], logits, atol=2e-5 * float(logits.abs().max()))


@pytest.mark.parametrize(("build", "line"), [(vim, None), (vim, "stm:r=3,blocks=all"), (video, "merge:r=5,blocks=all")])
def test_the_library_has_the_plans_of_every_block(tmp_path, build, line):
    model = build(line)
    (runner,) = native_format.NativeFormat().write(model, tmp_path / "out", batch=None, maps=False)
    images = images_of(model, 2)
    answer = runner.answer(images.numpy())
    with torch.inference_mode():
        plans = model.trace(images).blocks[-1].plans
    assert len(plans) == len(answer.places) == (0 if line is None else 2)
    for plan, place in zip(plans, answer.places.values(), strict=True):
        np.testing.assert_array_equal(place, plan.assignment())


def test_two_maps_say_how_tokens_moved_in_between():
    before, after = np.array([[0, 1, 1, 2, 3]]), np.array([[0, 1, 1, 1, 2]])
    np.testing.assert_array_equal(between(before, after), [[0, 1, 1, 2]])
    np.testing.assert_array_equal(between(before, np.array([[0, 1, 2, 1, 2]])), [[0, -2, 1, 2]])


def test_wrong_weights_in_the_file_are_caught(tmp_path, monkeypatch):
    right = native_format.native.save

    def halved(model, path):
        with torch.no_grad():
            model.head.weight.copy_(model.head.weight.half())
        return right(model, path)

    monkeypatch.setattr(native_format.native, "save", halved)
    with pytest.raises(ParityError, match="logits differ"):
        rmeeto.export(vim(), tmp_path / "out", format="native", count=1)


def test_what_the_library_cannot_compute_is_refused(tmp_path):
    for model, words in ((transformer(), "no VisionMamba"), (vim("prune:r=3"), "TokenPrune")):
        with pytest.raises(ConfigError, match=words):
            rmeeto.export(model, tmp_path / "out", format="native")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made_is_the_users_mistake(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RmeetoError, match="cannot be made"):
        rmeeto.export(vim(), tmp_path / "file/out", format="native", count=1)
