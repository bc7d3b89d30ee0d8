"""The folder: ``run.py`` runs without rmeeto and torch, prepares images as the model's data does, and names classes."""

import importlib
import json

import numpy as np
import pytest
import torch
from PIL import Image

import rmeeto
from rmeeto.data import Preparation, evaluation_transform
from rmeeto.data.sampling import Sparse
from rmeeto.errors import ConfigError, RmeetoError
from rmeeto.exporting.folder import free_folder, preparation
from rmeeto.exporting.standalone import prepare
from tiny_exports import run_alone, transformer, video, vim
from toys import COLOURS, picture


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    model = vim("merge:r=3,blocks=all,window=1", depth=2)
    place = tmp_path_factory.mktemp("export") / "out"
    rmeeto.export(model, place, maps=True, count=1, labels=["ant", "bee", "cat", "dog", "elk"])
    return model, place


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_run_py_needs_neither_rmeeto_nor_torch(folder, tmp_path, runtime):
    pytest.importorskip(runtime)
    model, place = folder
    file = tmp_path / "red.png"
    picture(COLOURS["red"], seed=1, size=50).save(file)
    shown = run_alone(place, file, "--runtime", runtime, "--logits", tmp_path / "logits.npy")
    image = evaluation_transform(Preparation.of(model), glyphs=False)(Image.open(file))
    with torch.inference_mode():
        logits = model(image[None])[0]
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy")[0], logits, atol=2e-5 * float(logits.abs().max()))
    likeliest = ["ant", "bee", "cat", "dog", "elk"][int(logits.argmax())]
    assert shown.splitlines()[1].endswith(likeliest)


def test_the_folder_has_all_that_a_program_needs(folder):
    _, place = folder
    names = {"README.md", "labels.json", "model.onnx", "parity.json", "preprocess.json", "run.py"}
    assert {file.name for file in place.iterdir()} == names
    assert "onnxruntime" in (place / "README.md").read_text()
    assert json.loads((place / "preprocess.json").read_text())["size"] == [32, 32]


def test_no_mask_of_pairs_of_tokens_is_stored(folder):
    onnx = pytest.importorskip("onnx")
    stored = onnx.load(folder[1] / "model.onnx").graph.initializer
    masks = [list(one.dims) for one in stored if one.data_type == onnx.TensorProto.BOOL]
    assert not [dims for dims in masks if np.prod(dims) > 65], "of a clip's 1,569 tokens they took 32 MB"


def test_the_source_map_is_the_second_output(folder):
    ort = pytest.importorskip("onnxruntime")
    model, place = folder
    session = ort.InferenceSession(str(place / "model.onnx"), providers=["CPUExecutionProvider"])
    assert [result.name for result in session.get_outputs()] == ["logits", "source_map"]
    images = torch.randn(1, *model.config.input_size)
    with torch.inference_mode():
        right = model.trace(images).blocks[-1].group()
    np.testing.assert_array_equal(session.run(None, {"images": images.numpy()})[1], right)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "I;16"])
@pytest.mark.parametrize("size", [(57, 41), (41, 57), (20, 20), (32, 90)])
@pytest.mark.parametrize("options", [{}, {"img_size": (32, 48)}, {"in_chans": 1, "mean": (0.3,), "std": (0.2,)}])
def test_images_are_prepared_bit_for_bit_as_by_the_package(mode, size, options):
    model = vim(**options)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (*size[::-1], 3), dtype=np.uint8))
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 200)
    elif mode != "RGB":
        image = image.convert(mode)
    right = evaluation_transform(Preparation.of(model), glyphs=False)(image)
    found = prepare.prepare(image, preparation(model, 1))
    np.testing.assert_array_equal(found, right.numpy())


def test_frames_of_a_clip_are_those_of_the_packages_evaluation(tmp_path):
    frames = tmp_path / "clip"
    frames.mkdir()
    for number in range(7):
        picture(COLOURS["green"], seed=number, size=30).save(frames / f"{number}.png")
    model = video()
    clip = prepare.read_input(frames, preparation(model, 1))
    assert clip.shape == (1, 3, 4, 16, 16)
    for length in (1, 3, 7, 64):
        assert tuple(prepare.spread(length, 4)) == Sparse(4).segment(length, 0, 1)


@pytest.mark.parametrize("frames", [1, 4])
@pytest.mark.parametrize("name", ["missing.png", "notes.txt", "cut.png", "empty"])
def test_run_py_says_in_one_line_which_file_it_cannot_read(tmp_path, monkeypatch, frames, name):
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/.DS_Store").write_text("no frame either")
    picture(COLOURS["red"], seed=1, size=50).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:90])
    prepared = preparation(vim() if frames == 1 else video(), 1)
    monkeypatch.setattr(prepare, "read_json", {"preprocess.json": prepared, "labels.json": ["ant", "bee"]}.get)
    asked = prepare.parser().parse_args([str(tmp_path / "whole.png"), str(tmp_path / name)])
    with pytest.raises(SystemExit, match=f"{name} cannot be read as {'an image' if frames == 1 else 'a clip'}"):
        prepare.answer(asked, lambda: lambda batch: np.zeros((1, 2), np.float32))


def test_run_py_says_which_package_is_missing_and_that_logits_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "read_json", {"preprocess.json": preparation(vim(), 1), "labels.json": ["ant"]}.get)
    picture(COLOURS["red"], seed=1, size=50).save(tmp_path / "red.png")
    asked = prepare.parser().parse_args([str(tmp_path / "red.png"), "--logits", str(tmp_path / "none/logits.npy")])
    with pytest.raises(SystemExit, match="needs a_runtime, which is not installed: pip install a_runtime"):
        prepare.answer(asked, importlib.import_module, "a_runtime")
    with pytest.raises(SystemExit, match="the logits cannot be written"):
        prepare.answer(asked, lambda: lambda batch: np.zeros((1, 1), np.float32))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("tome:r=2,features=X", "merge, prune, stm"),
        ("similar-merge:r=2", "fixed lengths"),
        ("merge:r=2,rank=random", "draws at random"),
        ("merge:r=2,shuffle=0.3", "shuffle"),
        ("merge:r=2,grouping=random", "grouping=random"),
    ],
)
def test_reductions_that_cannot_be_exported_are_refused_before_anything_is_written(tmp_path, line, words):
    with pytest.raises(ConfigError, match=words):
        rmeeto.export(vim(line), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_other_formats_precisions_and_models_are_refused(tmp_path):
    for options, words in (({"format": "pt3"}, "pt2"), ({"precision": "float16"}, "float32")):
        with pytest.raises(RmeetoError, match=words):
            rmeeto.export(vim(), tmp_path / "out", **options)
    with pytest.raises(ConfigError, match="no logits"):
        rmeeto.export(vim(num_classes=0), tmp_path / "out")
    with pytest.raises(ConfigError, match="no logits"):
        rmeeto.export(transformer(global_pool=""), tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="something there"):
        rmeeto.export(vim(), tmp_path / "full")


@pytest.mark.parametrize(
    ("made", "end"), [(True, KeyboardInterrupt()), (False, OSError(28, "No space left on device"))]
)
def test_an_export_that_ends_early_leaves_nothing_in_the_way(tmp_path, monkeypatch, made, end):
    place = tmp_path / "out"
    if made:
        place.mkdir()

    def ends(*_, **__):
        assert (place / "run.py").exists()
        raise end

    monkeypatch.setattr("rmeeto.exporting.run.compare", ends)
    with pytest.raises(type(end)):
        rmeeto.export(vim("merge:r=3,blocks=all", depth=2), place, format="pt2", count=1)
    assert place.exists() == made
    assert free_folder(place) == place
