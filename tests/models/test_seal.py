"""Saved models under kills, full disks and flipped bits: damage is noticed."""

import json
import os
import shutil
import warnings

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from faulty_disk import every_fault
from rmeeto import create_model, save_model
from rmeeto.config import ModelConfig
from rmeeto.errors import CheckpointError, RmeetoWarning, RunError
from rmeeto.models.seal import DESCRIPTION, HASH, check_seal
from rmeeto.models.vim.backbone import VisionMamba
from rmeeto.reduction import parse_reduction

SIZES = {"img_size": 16, "patch_size": 8, "stride": 8, "dim": 8, "state": 4, "num_classes": 3}


def build(depth, reduction):
    return VisionMamba(ModelConfig(**SIZES, depth=depth), parse_reduction(reduction)).eval()


@pytest.fixture(scope="module")
def models():
    return build(2, "merge:r=1,blocks=all"), build(3, "prune:r=1,blocks=all")


@pytest.fixture
def saved(models, tmp_path):
    return save_model(models[0], tmp_path / "model", name="toy", metadata={"classes": '["a", "b", "ü"]'})


def same(a, b):
    theirs = b.state_dict()
    return (
        (a.config, a.reduction) == (b.config, b.reduction)
        and a.state_dict().keys() == theirs.keys()
        and all(torch.equal(value, theirs[name]) for name, value in a.state_dict().items())
    )


@pytest.mark.parametrize("first", [False, True], ids=["over another", "into an empty folder"])
def test_every_fault_in_saving_leaves_the_old_model_or_the_new_one(models, tmp_path, monkeypatch, first):
    """With its own sizes, reduction and weights: the two files are never of two models."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    old, new = models

    def prepare():
        folder = tmp_path / "model"
        folder.mkdir() if first else save_model(old, folder)
        return folder

    def check(folder, fault, failed):
        assert failed is None or isinstance(failed, RunError), fault
        if first and not (folder / "model.safetensors").exists():
            return
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = create_model(str(folder))
        assert same(found, new) or (not first and same(found, old)), fault

    assert every_fault(prepare, lambda folder: save_model(new, folder), check) > 60


def test_a_flipped_bit_anywhere_is_refused(saved):
    """In the header, in the metadata, in the weights: the name of the file and a way out."""
    file = saved / "model.safetensors"
    whole = file.read_bytes()
    for place in range(0, len(whole), 37):
        damaged = bytearray(whole)
        damaged[place] ^= 4
        file.write_bytes(damaged)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(CheckpointError, match=r"model\.safetensors") as caught:
                create_model(str(saved))
        assert caught.value.fix, place
    file.write_bytes(whole)
    create_model(str(saved))


@pytest.mark.parametrize("key", [HASH, DESCRIPTION])
def test_damage_in_the_names_of_our_own_entries_is_noticed(saved, key):
    file = saved / "model.safetensors"
    content = file.read_bytes()
    assert content.count(key.encode()) == 1
    file.write_bytes(content.replace(key.encode(), b"X" + key.encode()[1:]))
    with pytest.raises(CheckpointError, match="damaged"):
        create_model(str(saved))


def test_a_cut_file_is_refused(saved):
    file = saved / "model.safetensors"
    whole = file.read_bytes()
    for size in (0, 4, 8, 100, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match=r"model\.safetensors"):
            create_model(str(saved))


def test_the_weights_alone_are_checked_too(saved, tmp_path):
    """Copied without their folder, and given as weights."""
    alone = shutil.copy(saved / "model.safetensors", tmp_path / "alone.safetensors")
    build_alone = {"weights": alone, **SIZES, "num_classes": None, "depth": 2}
    create_model("vim_tiny", **build_alone)
    content = bytearray(alone.read_bytes())
    content[-1] ^= 1
    alone.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"alone\.safetensors"):
        create_model("vim_tiny", **build_alone)


def test_other_programs_read_the_files_as_ever(saved, models):
    tensors = load_file(saved / "model.safetensors")
    assert all(torch.equal(tensors[name], value) for name, value in models[0].state_dict().items())
    with safe_open(saved / "model.safetensors", "pt") as file:
        assert file.metadata()["classes"] == '["a", "b", "ü"]'
        assert file.metadata()["format"] == "pt"


def test_files_without_a_hash_load_as_ever(saved, models):
    """Those of other programs and of earlier versions; also beside our config.json."""
    tensors = load_file(saved / "model.safetensors")
    save_file(tensors, saved / "model.safetensors", metadata={"format": "pt"})
    assert same(create_model(str(saved)), models[0])
    config = json.loads((saved / "config.json").read_text())
    del config["weights_sha256"]
    (saved / "config.json").write_text(json.dumps(config))
    assert same(create_model(str(saved)), models[0])


def test_weights_that_another_program_changed_are_refused_and_the_way_out_works(saved, models):
    file = saved / "model.safetensors"
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    changed = {name: value * 2 for name, value in load_file(file).items()}
    save_file(changed, file, metadata=metadata)
    with pytest.raises(CheckpointError, match="changed on purpose") as caught:
        create_model(str(saved))
    assert f"without {HASH} and {DESCRIPTION}" in caught.value.fix
    save_file(changed, file, metadata={k: v for k, v in metadata.items() if k not in (HASH, DESCRIPTION)})
    assert torch.equal(create_model(str(saved)).head.weight, models[0].head.weight * 2)


def test_a_changed_config_holds_and_is_mentioned(saved):
    config = json.loads((saved / "config.json").read_text())
    config["reduction"] = "merge:r=2,blocks=all"
    (saved / "config.json").write_text(json.dumps(config))
    with pytest.warns(RmeetoWarning, match=r"config\.json was changed .*reduction.*") as caught:
        assert create_model(str(saved)).reduction.r == 2
    assert caught[0].filename == __file__


def test_metadata_cannot_forge_the_hash(models, tmp_path):
    forged = {HASH: "1" * 64, "note": f'"{HASH}":"{"0" * 64}"'}
    save_model(models[0], tmp_path, metadata=forged)
    check_seal(tmp_path / "model.safetensors")
    assert same(create_model(str(tmp_path)), models[0])


@pytest.mark.parametrize("saved_step", [None, 18])
def test_the_folder_of_a_run_without_a_model_says_how_to_go_on(tmp_path, saved_step):
    (tmp_path / "recipe.toml").write_text('model = "vim_tiny"\n')
    if saved_step is not None:
        states = [{"sha256": "0" * 64, "size": 3, "step": saved_step}]
        (tmp_path / "state.json").write_text(json.dumps({"format": 1, "states": states}))
    with pytest.raises(CheckpointError, match="--resume") as caught:
        create_model(str(tmp_path))
    assert ("step 18" if saved_step else "saved nothing yet") in caught.value.why
    assert str(tmp_path) in caught.value.fix
    torch.save({"model": build(2, "merge:r=1,blocks=all").state_dict()}, tmp_path / "state.pt")
    with pytest.raises(CheckpointError, match="--resume"):
        create_model("vim_tiny", weights=tmp_path)
