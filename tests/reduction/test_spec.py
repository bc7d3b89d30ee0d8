"""One line says it all: every option prints and reads back, and a file may hold the line."""

import json

import pytest

from rmeeto import TokenMerge, create_model, save_model
from rmeeto.config import ModelConfig
from rmeeto.errors import ConfigError
from rmeeto.models.vim.backbone import VisionMamba
from rmeeto.reduction import parse_reduction


@pytest.mark.parametrize(
    "text",
    [
        "merge:gflops=3.6",
        "merge:fewer=1.4,slope=-0.5",
        "merge:r=11,slope=1,minimum=50",
        "merge:ratio=0.3,minimum=16,blocks=all",
        "merge:r=0*3+5+0+7*2,blocks=all",
        "merge:r=0*23,blocks=all",
        "merge:ratio=0.31234567890123",
        "merge:gflops=1e-05",
    ],
)
def test_lines_read_back_as_they_were_printed(text):
    method = parse_reduction(text)
    assert str(method) == text
    assert parse_reduction(str(method)) == method


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("merge:", "none of them"),
        ("merge:gflops=3,fewer=2", "exactly one of r, ratio, gflops and fewer"),
        ("merge:gflops=0", "above 0"),
        ("merge:gflops=nan", "above 0"),
        ("merge:fewer=0.9", "at least 1"),
        ("merge:fewer=inf", "at least 1"),
        ("merge:r=3,slope=1.5", "more than its mean"),
        ("merge:r=3*4,slope=0.5", "already says"),
        ("merge:r=3,minimum=-1", "zero or more"),
        ("merge:r=3,minimum=2.5", "minimum takes int"),
    ],
)
def test_impossible_lines_say_why(text, hint):
    with pytest.raises(ConfigError, match=hint):
        parse_reduction(text)


def test_the_line_of_a_file(tmp_path):
    path = tmp_path / "schedule.json"
    path.write_text(json.dumps({"reduction": "merge:r=1+0*21+2,blocks=all", "anything": "else"}))
    assert parse_reduction(f"@{path}") == TokenMerge(r=[1, *[0] * 21, 2], blocks="all")


@pytest.mark.parametrize(
    ("content", "hint"),
    [(None, "No such file"), ("{", "not JSON"), ("[]", "no line"), ('{"reduction": null}', "no line")],
)
def test_a_file_without_a_line(tmp_path, content, hint):
    path = tmp_path / "schedule.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=hint):
        parse_reduction(f"@{path}")


def test_any_list_of_counts_is_saved_beside_the_weights(tmp_path):
    config = ModelConfig(img_size=16, patch_size=4, stride=4, dim=16, depth=4, state=4, num_classes=3)
    model = VisionMamba(config, TokenMerge(r=(0, 3, 5), blocks="all", features="C"))
    save_model(model, tmp_path)
    loaded = create_model(str(tmp_path))
    assert loaded.reduction == model.reduction
    assert loaded.schedule.counts == (0, 0, 3, 5)
    assert parse_reduction(f"@{tmp_path / 'config.json'}") == model.reduction
