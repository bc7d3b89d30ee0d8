"""Weight files and configs that are damaged, foreign or hostile: one clear error, soon and without much memory."""

import json
import os
import resource
import warnings
import zipfile

import pytest
import torch
from safetensors.torch import load_file, save_file

from rmeeto import create_model, save_model
from rmeeto.errors import CheckpointError, ConfigError, RmeetoError, RmeetoWarning, UnknownName
from rmeeto.files.paths import shown
from rmeeto.models.description import describe

pytestmark = [pytest.mark.timeout(60), pytest.mark.filterwarnings("ignore::rmeeto.errors.RmeetoWarning")]
SIZES = {"img_size": 32, "patch_size": 8, "stride": 8, "dim": 16, "depth": 2, "num_classes": 5}


@pytest.fixture(scope="module")
def state():
    return create_model("vim_tiny", **SIZES).state_dict()


def refusal(path, **changes):
    with pytest.raises(CheckpointError) as error:
        create_model("vim_tiny", weights=path, **{**SIZES, "num_classes": None, **changes})
    return str(error.value)


def saved(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    return tmp_path / "w.pth"


def test_a_wrapper_that_holds_itself_ends(tmp_path):
    content = {}
    content["model"] = content
    assert "no state dict" in refusal(saved(tmp_path, content))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.to_sparse(), "sparse"),
        (lambda t: t.to("meta"), "without data"),
        (lambda t: t[:1, :1].clone().expand(t.shape), "more numbers than the file holds"),
        (lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8), "quantised"),
    ],
)
def test_tensors_that_are_no_plain_ones_are_refused_by_name(state, tmp_path, change, words):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        changed = state | {"head.weight": change(state["head.weight"])}
        message = refusal(saved(tmp_path, changed))
    assert words in message
    assert "head.weight" in message


@pytest.mark.parametrize("dtype", [torch.int32, torch.complex64, torch.bool, torch.uint8, torch.float8_e4m3fn])
@pytest.mark.parametrize("name", ["layers.0.mixer.in_proj.weight", "pos_embed"])
def test_weights_of_other_numbers_are_refused(state, tmp_path, dtype, name):
    changed = state | {name: state[name].to(dtype)}
    message = refusal(saved(tmp_path, changed), img_size=48)
    assert str(dtype) in message
    assert name in message


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_other_precisions_load(state, tmp_path, dtype):
    changed = {name: tensor.to(dtype) for name, tensor in state.items()}
    model = create_model("vim_tiny", weights=saved(tmp_path, changed), **SIZES)
    assert all(tensor.dtype == torch.float32 for tensor in model.state_dict().values())


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("pos_embed", (1, 0, 16)),
        ("pos_embed", (1, 17, 0)),
        ("pos_embed", (0, 17, 16)),
        ("pos_embed", (3, 26, 16)),
        ("pos_embed", ()),
        ("cls_token", ()),
        ("head.weight", ()),
        ("head.weight", (5,)),
        ("head.weight", (0, 16)),
        ("reg_token", ()),
        ("reg_token", (1, 0, 16)),
        ("patch_embed.proj.weight", (16, 3, 8)),
    ],
)
@pytest.mark.parametrize("frames", [1, 2])
def test_shapes_that_cannot_be_adapted_are_a_misfit(state, tmp_path, name, shape, frames):
    assert name in refusal(saved(tmp_path, state | {name: torch.zeros(shape)}), frames=frames)


def test_a_temporal_table_without_rows_is_a_misfit(state, tmp_path):
    changed = state | {"temporal_pos_embedding": torch.zeros(1, 0, 16)}
    assert "temporal_pos_embedding" in refusal(saved(tmp_path, changed), frames=2)


@pytest.mark.parametrize("place", ["/dev/null", "/dev/zero", "fifo.pth", "fifo.safetensors"])
def test_weights_that_are_no_file_are_not_waited_for(tmp_path, place):
    if place.startswith("fifo"):
        place = str(tmp_path / place)
        os.mkfifo(place)
    assert "not a file" in refusal(place)


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"\x80\x02}", b"PK\x03\x04" + b"x" * 50, b"\0" * 4096])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_bytes_that_are_no_weights_say_so_without_advice_to_run_them(tmp_path, content, suffix):
    (tmp_path / f"w{suffix}").write_bytes(content)
    message = refusal(tmp_path / f"w{suffix}")
    assert "corrupt, incomplete or no weight file" in message
    assert "weights_only" not in message


def test_an_archive_that_would_unpack_to_much_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", b"\0" * 50_000_000)
    assert "would unpack to" in refusal(tmp_path / "w.pth")


def test_a_file_whose_name_is_not_utf8_loads(state, tmp_path):
    for suffix, save in ((".safetensors", save_file), (".pth", torch.save)):
        save(state, tmp_path / f"w{suffix}")
        strange = (tmp_path / f"w{suffix}").rename(tmp_path / f"\udcff{suffix}")
        create_model("vim_tiny", weights=strange, **SIZES)
        assert shown(strange.name) == rf"\xff{suffix}"


def folder_with(tmp_path, config):
    model = create_model("vim_tiny", **SIZES)
    folder = save_model(model, tmp_path / "saved")
    content = json.loads((folder / "config.json").read_text())
    changed = config(content) if callable(config) else config
    (folder / "config.json").write_text(changed if isinstance(changed, str) else json.dumps(changed))
    return str(folder)


@pytest.mark.parametrize(
    "config",
    [
        "null",
        "[]",
        "3",
        '"text"',
        "[" * 100_000,
        '{"config": ' + "9" * 5000 + "}",
        "{}",
        '{"config": null}',
        '{"config": [1]}',
        '{"config": {"dpeth": 3}}',
        '{"config": {"architecture": 3}}',
        '{"config": {"architecture": "vit_tiny_patch16_224"}}',
        lambda c: {**c, "name": 3},
        lambda c: {**c, "reduction": 3},
        lambda c: {**c, "reduction": "nonsense:r=3"},
        lambda c: {**c, "dynamic": 3},
        lambda c: {**c, "dynamic": {"keep": "a"}},
        lambda c: {**c, "dynamic": {"blocks": "ab"}},
        lambda c: {**c, "config": {**c["config"], "cls_place": 1.4}},
        lambda c: {**c, "config": {**c["config"], "cls_place": ["first"]}},
        lambda c: {**c, "config": {**c["config"], "dim": 10**9}},
        lambda c: {**c, "config": {**c["config"], "dim": 20_000}},
        lambda c: {**c, "config": {**c["config"], "depth": 10**9}},
        lambda c: {**c, "config": {**c["config"], "img_size": [60_000, 60_000]}},
        lambda c: {**c, "config": {**c["config"], "img_size": "224"}},
        lambda c: {**c, "config": {**c["config"], "registers": 10**9}},
        lambda c: {**c, "config": {**c["config"], "mean": [], "std": []}},
        lambda c: {**c, "config": {**c["config"], "std": [0, 0, 0]}},
        lambda c: {**c, "config": {**c["config"], "interpolation": "nonsense"}},
    ],
)
def test_configs_that_are_damaged_or_hostile_are_refused_before_they_fill_memory(tmp_path, config):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(RmeetoError):
        create_model(folder_with(tmp_path, config))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000, "kB"


def test_a_config_that_is_no_file_is_refused(tmp_path):
    folder = folder_with(tmp_path, "{}")
    os.unlink(f"{folder}/config.json")
    os.mkdir(f"{folder}/config.json")
    with pytest.raises(CheckpointError, match="a folder, not a file"):
        create_model(folder)
    os.rmdir(f"{folder}/config.json")
    os.mkfifo(f"{folder}/config.json")
    with pytest.raises(CheckpointError, match="named pipe"):
        create_model(folder)


def test_a_damaged_config_beside_weights_says_nothing_about_their_family(tmp_path):
    folder = folder_with(tmp_path, lambda c: {**c, "config": {**c["config"], "cls_place": 1.4}})
    create_model("vim_tiny", weights=folder, **SIZES)


@pytest.mark.parametrize("name", [None, 3, "", b"vim_tiny", [], "a\0b", "x" * 100_000, "~nobody-of-that-name"])
def test_names_that_are_none(name):
    with pytest.raises((ConfigError, UnknownName)):
        create_model(name)
    with pytest.raises((ConfigError, UnknownName)):
        describe(name)


@pytest.mark.parametrize("weights", ["", "a\0b", "x" * 5000, "~nobody-of-that-name", "hf-hub:", "hf-hub:a/../b"])
def test_addresses_of_weights_that_are_none(weights):
    with pytest.raises(CheckpointError):
        create_model("vim_tiny", weights=weights)


def test_weights_of_the_other_family_are_named(state, tmp_path):
    for name in ("vim_t_midclstok.pth", "videomamba_t16.pth"):
        torch.save(state, tmp_path / name)
    with pytest.warns(RmeetoWarning, match="seems to hold the weights of a Vim"):
        create_model("videomamba_tiny", weights=tmp_path / "vim_t_midclstok.pth", **SIZES)
    with pytest.warns(RmeetoWarning, match="seems to hold the weights of a VideoMamba"):
        create_model("vim_tiny", weights=tmp_path / "videomamba_t16.pth", **SIZES)
    folder = save_model(create_model("videomamba_tiny", **SIZES), tmp_path / "saved")
    with pytest.warns(RmeetoWarning, match="seems to hold the weights of a VideoMamba"):
        create_model("vim_tiny", weights=folder, **SIZES)
    assert load_file(folder / "model.safetensors").keys() == state.keys()
    create_model("videomamba_tiny", weights=folder, **SIZES)
