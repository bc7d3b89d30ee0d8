import argparse
import json
import pickle
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

import goldens
from faulty_disk import FaultyDisk, in_use
from rmeeto import create_model, list_models, save_model
from rmeeto.config import ModelConfig
from rmeeto.errors import CheckpointError, RmeetoWarning, RunError, UnknownName
from rmeeto.models.vim import zoo
from rmeeto.models.vim.backbone import VisionMamba
from rmeeto.reduction import parse_reduction

SIZES = {"img_size": 32, "patch_size": 8, "stride": 8, "dim": 16, "depth": 2, "num_classes": 5}


@pytest.fixture
def model():
    return VisionMamba(ModelConfig(**SIZES)).eval()


def build(source, **changes):
    return create_model("vim_tiny", weights=source, **{**SIZES, "num_classes": None, **changes})


def assert_same_weights(a, b):
    for (name, x), (other, y) in zip(a.state_dict().items(), b.state_dict().items(), strict=True):
        assert name == other
        assert torch.equal(x, y)


OFFICIAL = [name for name in goldens.table("state_dict_shapes")["shapes"] if name.startswith(("vim_", "videomamba_"))]


@pytest.mark.parametrize("name", OFFICIAL)
def test_parameter_names_and_shapes_are_the_official_ones(name):
    with torch.device("meta"):
        built = VisionMamba(goldens.config(name))
    assert {key: list(value.shape) for key, value in built.state_dict().items()} == goldens.shapes(name)


def test_official_long_names_are_aliases():
    for short, entry in zoo.ZOO.items():
        assert zoo.find(short) == (short, entry)
        if entry.alias:
            assert zoo.find(entry.alias) == (short, entry)
    long = "vim_small_patch16_stride8_224_bimambav2_final_pool_mean_abs_pos_embed_with_midclstok_div2"
    assert zoo.find(long)[0] == "vim_small_plus"


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(UnknownName, match="vim_small"):
        create_model("vim_smal")
    with pytest.raises(UnknownName, match="depth"):
        create_model("vim_tiny", depht=2)
    assert list_models("vim_small*") == ["vim_small", "vim_small_plus"]


def test_folder_round_trip_keeps_weights_sizes_and_reduction(model, tmp_path):
    model.reduction = parse_reduction("merge:r=3,features=C,blocks=odd")
    save_model(model, tmp_path / "run", metadata={"recipe": "epochs = 3"})
    again = create_model(str(tmp_path / "run"))
    assert_same_weights(model, again)
    assert again.config == model.config
    assert again.reduction == model.reduction
    assert create_model(f"local-dir:{tmp_path / 'run'}", reduction="merge:r=1,blocks=1::1").reduction.r == 1


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"model": s}, lambda s: {"model": {"state_dict": s}}])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_wrapped_pickles_load(model, tmp_path, wrap, prefix):
    state = {prefix + name: value for name, value in model.state_dict().items()}
    content = wrap(state)
    if "model" in content:
        content |= {"args": argparse.Namespace(lr=1e-3), "epoch": 300}  # as the official files have it
    torch.save(content, tmp_path / "weights.pth")
    assert_same_weights(model, build(tmp_path / "weights.pth"))
    assert_same_weights(model, build(tmp_path))  # the only weight file of a folder


def test_safetensors_load(model, tmp_path):
    save_file(model.state_dict(), tmp_path / "x.safetensors")
    assert_same_weights(model, build(tmp_path / "x.safetensors"))


def test_a_pickle_that_is_code_is_refused_and_not_run(tmp_path):
    marker = tmp_path / "ran"

    class Malicious:
        def __reduce__(self):
            return (open, (str(marker), "w"))

    torch.save({"model": Malicious()}, tmp_path / "bad.pth")
    with pytest.raises(CheckpointError, match="never code"):
        build(tmp_path / "bad.pth")
    (tmp_path / "worse.pth").write_bytes(pickle.dumps(Malicious()))
    with pytest.raises(CheckpointError):
        build(tmp_path / "worse.pth")
    assert not marker.exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("damage", ["truncated", "empty", "text"])
def test_corrupt_files_are_named(model, tmp_path, suffix, damage):
    path = tmp_path / f"weights{suffix}"
    save_file(model.state_dict(), path) if suffix == ".safetensors" else torch.save(model.state_dict(), path)
    whole = path.read_bytes()
    path.write_bytes({"truncated": whole[: len(whole) // 2], "empty": b"", "text": b"<html>404</html>"}[damage])
    with pytest.raises(CheckpointError, match=f"weights{suffix}"):
        build(path)


def test_a_pickle_without_weights_is_refused(tmp_path):
    torch.save({"epoch": 3, "best": 0.5}, tmp_path / "log.pth")
    with pytest.raises(CheckpointError, match="no state dict"):
        build(tmp_path / "log.pth")


def test_misfit_prints_a_diff_and_the_likely_family(tmp_path):
    small = VisionMamba(ModelConfig(**{**SIZES, "dim": 192, "depth": 1}))
    state = small.state_dict() | {"extra": torch.zeros(3)}
    del state["norm_f.weight"]
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(CheckpointError) as caught:
        build(tmp_path / "x.pth", dim=192, depth=1)
    message = str(caught.value)
    assert "+ extra (3,)" in message
    assert "- norm_f.weight (192,)" in message
    assert "looks like vim_tiny" in message
    torch.save({"blocks.0.attn.qkv.weight": torch.zeros(3)}, tmp_path / "vit.pth")
    with pytest.raises(CheckpointError, match="ViT or DeiT"):
        build(tmp_path / "vit.pth")


def test_other_image_size_and_class_count_are_adapted_aloud(model, tmp_path):
    save_file(model.state_dict(), tmp_path / "x.safetensors")
    with pytest.warns(RmeetoWarning, match="resampled from 4×4 to 6×6"):
        larger = build(tmp_path / "x.safetensors", img_size=48)
    assert larger(torch.randn(1, 3, 48, 48)).shape == (1, 5)
    with pytest.warns(RmeetoWarning, match="5 classes, the model for 7"):
        other = build(tmp_path / "x.safetensors", num_classes=7)
    assert other.num_classes == 7
    assert torch.equal(other.layers[1].mixer.D, model.layers[1].mixer.D)


def official_resampling(table, old_row, new_row, size, **options):
    """Vim's and VideoMamba's own programs: the class token's row apart, PyTorch's bicubic interpolation of the rest."""
    patches = torch.cat([table[:, :old_row], table[:, old_row + 1 :]], dim=1)
    side = int(patches.shape[1] ** 0.5)
    planes = patches.reshape(1, side, side, -1).permute(0, 3, 1, 2)
    planes = torch.nn.functional.interpolate(planes, size=size, mode="bicubic", align_corners=False, **options)
    rows = planes.permute(0, 2, 3, 1).flatten(1, 2)
    return torch.cat([rows[:, :new_row], table[:, old_row : old_row + 1], rows[:, new_row:]], dim=1)


@pytest.mark.parametrize(("img_size", "row"), [(48, 18), (24, 4), ((16, 48), 6)])
def test_positions_are_resampled_as_the_official_programs_do_unless_timms_way_is_named(model, tmp_path, img_size, row):
    torch.nn.init.normal_(model.pos_embed, std=0.5)
    save_file(model.state_dict(), tmp_path / "x.safetensors")
    size = (img_size // 8, img_size // 8) if isinstance(img_size, int) else (2, 6)
    with pytest.warns(RmeetoWarning, match="patches, bicubic as the official programs do.*antialiased"):
        official = build(tmp_path / "x.safetensors", img_size=img_size)
    assert torch.equal(official.pos_embed, official_resampling(model.pos_embed, 8, row, size))
    with pytest.warns(RmeetoWarning, match="patches, antialiased as timm does"):
        antialiased = build(tmp_path / "x.safetensors", img_size=img_size, position_interpolation="antialiased")
    expected = official_resampling(model.pos_embed, 8, row, size, antialias=True)
    assert torch.equal(antialiased.pos_embed, expected)
    assert not torch.allclose(antialiased.pos_embed, official.pos_embed, atol=1e-3)
    save_model(antialiased, tmp_path / "saved")
    assert create_model(str(tmp_path / "saved")).config.position_interpolation == "antialiased"


def test_an_unknown_position_interpolation_is_named(model):
    with pytest.raises(UnknownName, match="antialiased, bicubic"):
        model.config.changed(position_interpolation="nearest")


CLIPS = {"frames": 8, "cls_place": "first", "halve": False}


@pytest.fixture
def clip_model():
    model = VisionMamba(ModelConfig(**SIZES, **CLIPS)).eval()
    torch.nn.init.normal_(model.temporal_pos_embedding)
    return model


def build_clips(source, **changes):
    return create_model("videomamba_tiny_video", weights=source, **{**SIZES, "num_classes": None, **changes})


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"model": s}, lambda s: {"module": s, "global_steps": 9}])
def test_clip_checkpoints_load_flat_or_nested(clip_model, tmp_path, wrap):
    torch.save(wrap(clip_model.state_dict()), tmp_path / "k400.pth")
    assert_same_weights(clip_model, build_clips(tmp_path / "k400.pth"))


def test_folder_round_trip_of_a_clip_model(clip_model, tmp_path):
    save_model(clip_model, tmp_path)
    again = create_model(str(tmp_path))
    assert again.config == clip_model.config
    assert_same_weights(clip_model, again)


def test_other_frame_counts_and_sizes_are_resampled_aloud(clip_model, tmp_path):
    save_file(clip_model.state_dict(), tmp_path / "x.safetensors")
    with pytest.warns(RmeetoWarning, match="temporal positions resampled from 8 to 16"):
        longer = build_clips(tmp_path / "x.safetensors", frames=16)
    assert longer(torch.randn(1, 3, 16, 32, 32)).shape == (1, 5)
    assert torch.equal(longer.temporal_pos_embedding[:, 0], clip_model.temporal_pos_embedding[:, 0])
    with pytest.warns(RmeetoWarning, match="4×4 to 6×6"):
        larger = build_clips(tmp_path / "x.safetensors", img_size=48)
    assert torch.equal(larger.pos_embed, official_resampling(clip_model.pos_embed, 0, 0, (6, 6)))
    assert torch.equal(larger.temporal_pos_embedding, clip_model.temporal_pos_embedding)


def test_image_weights_become_a_clip_model_aloud(tmp_path):
    image = VisionMamba(ModelConfig(**SIZES, cls_place="first", halve=False)).eval()
    save_file(image.state_dict(), tmp_path / "x.safetensors")
    with pytest.warns(RmeetoWarning) as caught:
        clips = build_clips(tmp_path / "x.safetensors", frames=4, tubelet=2)
    said = " ".join(str(warning.message) for warning in caught)
    assert "inflated" in said
    assert "start at zero" in said
    assert all(warning.filename == __file__ for warning in caught)
    picture = torch.randn(1, 3, 32, 32)
    still = clips.embed(picture[:, :, None].expand(-1, -1, 4, -1, -1)).x
    expected = image.embed(picture).x
    torch.testing.assert_close(still[:, :17], expected)
    torch.testing.assert_close(still[:, 17:], expected[:, 1:])


def test_the_head_of_self_distillation_is_dropped_aloud(model, tmp_path):
    extra = {"distill_head.weight": torch.zeros(5, 16), "distill_head.bias": torch.zeros(5)}
    torch.save(model.state_dict() | extra, tmp_path / "x.pth")
    with pytest.warns(RmeetoWarning, match="distill_head dropped"):
        assert_same_weights(model, build(tmp_path / "x.pth"))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_files_load_into_float32(clip_model, tmp_path, dtype):
    clip_model = clip_model.to(dtype).float()
    save_file({name: value.to(dtype) for name, value in clip_model.state_dict().items()}, tmp_path / "x.safetensors")
    built = build_clips(tmp_path / "x.safetensors")
    assert {value.dtype for value in built.state_dict().values()} == {torch.float32}
    assert_same_weights(clip_model, built)


def test_a_file_that_shares_no_name_with_the_model_is_refused(model, clip_model, tmp_path):
    torch.save({f"encoder.{name}": value for name, value in model.state_dict().items()}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=r"none of these names(.|\n)*cls_token"):
        build(tmp_path / "x.pth")
    torch.save(VisionMamba(ModelConfig(**{**SIZES, **CLIPS, "dim": 192, "depth": 1})).state_dict(), tmp_path / "y.pth")
    with pytest.raises(CheckpointError, match="looks like videomamba_tiny_video"):
        build(tmp_path / "y.pth", dim=192, depth=1)


def test_a_backbone_without_a_head_is_saved_and_loaded(model, tmp_path):
    save_file(model.state_dict(), tmp_path / "x.safetensors")
    with pytest.warns(RmeetoWarning, match="head dropped"):
        headless = build(tmp_path / "x.safetensors", num_classes=0)
    save_model(headless, tmp_path / "backbone")
    assert_same_weights(headless, create_model(str(tmp_path / "backbone")))


def test_missing_sources(tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        build(tmp_path / "nothing.pth")
    with pytest.raises(CheckpointError, match=r"no \.safetensors"):
        build(tmp_path)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        create_model(str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="not JSON"):
        create_model(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"config": {"widht": 3}}))
    with pytest.raises(CheckpointError, match="does not describe"):
        create_model(str(tmp_path))


def test_the_hub_out_of_reach_is_one_clear_error():
    with pytest.raises(CheckpointError, match="pass its path as weights"):
        create_model("vim_tiny", pretrained=True)
    with pytest.raises(CheckpointError, match="did not deliver"):
        create_model("hf-hub:nobody/nothing@main")


def test_hub_addresses_reach_the_hub_as_given(monkeypatch, tmp_path, model):
    save_model(model, tmp_path)
    asked = []

    def snapshot(repository, **options):
        asked.append((repository, options["revision"]))
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    assert_same_weights(model, create_model("hf-hub:owner/name@v2"))
    assert asked == [("owner/name", "v2")]


def test_a_full_disk_leaves_the_old_file(model, tmp_path):
    save_model(model, tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()
    with in_use(FaultyDisk(tmp_path, at=2, fault="disk full")), pytest.raises(RunError, match="No space left"):
        save_model(model, tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize("order", ["import rmeeto, timm", "import timm, rmeeto", "import timm.layers, rmeeto"])
def test_timm_builds_our_models_whoever_is_imported_first(order):
    code = f"{order}\nmodel = timm.create_model('vim_tiny', num_classes=7, depth=1)\nassert model.num_classes == 7"
    code += "\nassert timm.data.resolve_model_data_config(model)['crop_pct'] == 0.875"
    subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", code], check=True)
