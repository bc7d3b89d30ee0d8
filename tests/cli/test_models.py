import pytest

from rmeeto.config import ModelConfig
from rmeeto.models.vim.backbone import VisionMamba
from rmeeto.models.vim.zoo import ZOO


@pytest.mark.parametrize(
    "config",
    [
        ZOO["vim_tiny"].config,
        ZOO["vim_digits"].config,
        ZOO["videomamba_tiny_video"].config.changed(depth=2),
        ModelConfig(dim=24, depth=2, img_size=32, frames=6, tubelet=2, cls_place="first", halve=False),
        ModelConfig(dim=24, depth=2, img_size=32, registers=3),
        ModelConfig(dim=24, depth=2, state=3, expand=3, conv_width=2, dt_rank=5, num_classes=7, img_size=(32, 16)),
    ],
)
def test_parameters_are_counted_without_building(config):
    model = VisionMamba(config)
    assert config.parameters == sum(p.numel() for p in model.parameters())


def test_every_model_is_listed_with_size_cost_and_weights(rmeeto_json):
    entries = {entry["name"]: entry for entry in rmeeto_json("models")["models"]}
    assert set(entries) == set(ZOO)
    small = entries["vim_small"]
    assert (small["tokens"], small["top1_percent"]) == (197, 80.5)
    assert small["paper_operations"] == pytest.approx(5.08e9, rel=1e-3)
    assert small["weights"] == "hf-hub:hustvl/Vim-small-midclstok"
    assert entries["vim_digits"]["weights"] == "ships with rmeeto"
    clips = entries["videomamba_tiny_video"]
    assert (clips["frames"], clips["tokens"], clips["top1_percent"]) == (8, 1569, 76.9)
    assert clips["parameters"] == 7_033_744


def test_a_pattern_filters_and_one_without_models_suggests(rmeeto_cli):
    lines = rmeeto_cli("models", "vim_s*").stdout
    assert "vim_small_plus" in lines
    assert "vim_tiny" not in lines
    assert "vim_small" in rmeeto_cli("models", "vim_smal", code=2).stderr
