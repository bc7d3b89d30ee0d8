import numpy as np
import pytest
import torch
from PIL import Image

import rmeeto
from rmeeto import viz
from rmeeto.config import ModelConfig
from rmeeto.errors import ConfigError, RunError
from toys import SIZES

GROUPS = np.array([[0, 0, 1], [2, 1, 1], [2, 3, -1]])


def noise_image(width=30, height=24, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_a_groups_colour_is_the_mean_of_its_pixels():
    image = np.asarray(noise_image(), dtype=np.float64) / 255
    cells = viz.over_pixels(GROUPS, 24, 30)
    painted = viz.mean_colours(image, cells)
    for group in np.unique(GROUPS):
        inside = cells == group
        assert inside.any()
        np.testing.assert_allclose(painted[inside], np.broadcast_to(image[inside].mean(0), (inside.sum(), 3)))


def test_the_drawing_shows_those_colours_inside_the_borders():
    image = noise_image()
    pixels = np.asarray(image, dtype=np.float64)
    cells = viz.over_pixels(GROUPS, 24, 30)
    drawn = np.asarray(viz.draw_groups(image, GROUPS, size=30), dtype=np.float64)
    assert drawn.shape == pixels.shape
    inside = (cells == 1) & ~viz.borders(cells, 1)
    assert np.abs(drawn[inside] - pixels[cells == 1].mean(0)).max() <= 0.5
    edge = viz.borders(cells, 1) & (cells == 1)
    assert (drawn[edge] > pixels[cells == 1].mean(0)).all()


def test_dropped_patches_have_no_colour():
    drawn = np.asarray(viz.draw_groups(noise_image(), GROUPS, size=30))
    dropped = drawn[viz.over_pixels(GROUPS, 24, 30) == viz.DROPPED]
    assert (dropped.max(1) == dropped.min(1)).all()


def test_borders_part_only_different_groups():
    one = np.zeros((3, 3), dtype=np.int64)
    assert not viz.borders(viz.over_pixels(one, 24, 24), 2).any()
    two = np.array([[0, 1]])
    lines = viz.borders(viz.over_pixels(two, 4, 8), 1)
    assert lines.sum() == 4
    assert lines[:, 4].all()


def test_pixels_are_spread_evenly_over_a_grid():
    cells = viz.over_pixels(np.arange(6).reshape(2, 3), 8, 9)
    assert [(cells == group).sum() for group in range(6)] == [12] * 6
    assert cells[0, 0] == 0
    assert cells[7, 8] == 5


@pytest.mark.parametrize(
    "method", ["merge:r=3", "prune:r=3", "released:r=3", "merge:r=3,order=dropped", "merge:r=2,shuffle=1"]
)
def test_the_map_follows_each_patch_past_the_class_token(method):
    config = ModelConfig(num_classes=2, **SIZES)
    model = rmeeto.VisionMamba(config, rmeeto.parse_reduction(method)).eval()
    trace = model.trace(torch.randn(3, 3, 16, 16))
    for tokens in trace.blocks:
        groups = viz.patch_groups(tokens, config)
        assert groups.shape == (3, 4, 4)
        for image in range(3):
            found = set(groups[image].ravel().tolist()) - {viz.DROPPED}
            # every token but the class token is some patch's, and the class token is none's
            everybody = set(range(tokens.length))
            if method.startswith("released"):
                assert len(found) == tokens.length - 1  # where it reports the class token to be is another matter
            else:
                assert found == everybody - {int(tokens.cls_index[image])}


def test_unreduced_every_patch_is_its_own_group_in_reading_order():
    config = ModelConfig(num_classes=2, **SIZES)
    tokens = rmeeto.VisionMamba(config).embed(torch.randn(1, 3, 16, 16))
    expected = np.delete(np.arange(17), config.cls_index).reshape(1, 4, 4)
    assert (viz.patch_groups(tokens, config) == expected).all()


def test_rows_hold_the_image_and_each_block():
    model = rmeeto.create_model("vim_tiny", reduction="merge:r=3,blocks=all", **SIZES)
    rows = viz.merged_groups(model, [noise_image(seed=s) for s in (1, 2)], ["a", "b"], [1, 3])
    assert [row.name for row in rows] == ["a", "b"]
    assert [panel.title for panel in rows[0].panels] == ["image", "block 1: 14 tokens", "block 3: 8 tokens"]
    assert len({panel.picture.size for row in rows for panel in row.panels}) == 1


def test_the_picture_is_what_the_model_saw():
    image = Image.new("RGB", (16, 16), (200, 100, 50))
    model = rmeeto.create_model("vim_tiny", reduction="merge:r=3", crop_pct=1.0, **SIZES)
    (row,) = viz.merged_groups(model, [image], ["flat"], [2])
    for panel in row.panels:
        assert np.abs(np.asarray(panel.picture, dtype=int).min((0, 1)) - (200, 100, 50)).max() <= 1


def test_grey_models_are_drawn_too():
    model = rmeeto.create_model("vim_tiny", reduction="merge:r=3", in_chans=1, mean=(0.5,), std=(0.5,), **SIZES)
    (row,) = viz.merged_groups(model, [noise_image()], ["grey"], [2])
    pixels = np.asarray(row.panels[0].picture)
    assert (pixels.max(2) == pixels.min(2)).all()


def test_blocks_that_are_not_there():
    model = rmeeto.create_model("vim_tiny", reduction="merge:r=3", **SIZES)
    assert viz.typical_blocks(model) == [2]
    for block in (-1, 4):
        with pytest.raises(ConfigError, match=f"block {block}"):
            viz.merged_groups(model, [noise_image()], ["a"], [block])


def test_the_first_middle_and_last_reducing_block_are_typical():
    model = rmeeto.create_model("vim_tiny", reduction="merge:r=1", **{**SIZES, "depth": 24})
    assert viz.typical_blocks(model) == [2, 12, 22]


def test_a_figure_is_written_whole_or_not_at_all(tmp_path):
    model = rmeeto.create_model("vim_tiny", reduction="merge:r=3", **SIZES)
    sheet = viz.figure(viz.merged_groups(model, [noise_image()], ["a"], [2]))
    viz.save_figure(sheet, tmp_path / "new" / "sheet.png")
    with Image.open(tmp_path / "new" / "sheet.png") as picture:
        assert picture.width > picture.height
    with pytest.raises(ConfigError, match="ending"):
        viz.save_figure(sheet, tmp_path / "sheet")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError):
        viz.save_figure(sheet, tmp_path / "file" / "sheet.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "new"]
