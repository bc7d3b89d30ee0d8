from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import rmeeto
from rmeeto import viz
from rmeeto.config import ModelConfig
from rmeeto.errors import ConfigError, RunError
from rmeeto.models.vim.backbone import VisionMamba
from rmeeto.reduction import parse_reduction
from toys import SIZES

GROUPS = np.array([[0, 0, 1], [2, 1, 1], [2, 3, -1]])


def noise_image(width=30, height=24, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_a_groups_colour_is_the_mean_of_its_pixels():
    image = np.asarray(noise_image(), dtype=np.float64) / 255
    cells = viz.groups.over_pixels(GROUPS, 24, 30)
    painted = viz.groups.mean_colours(image, cells)
    for group in np.unique(GROUPS):
        inside = cells == group
        assert inside.any()
        np.testing.assert_allclose(painted[inside], np.broadcast_to(image[inside].mean(0), (inside.sum(), 3)))


def test_the_drawing_shows_those_colours_inside_the_borders():
    image = noise_image()
    pixels = np.asarray(image, dtype=np.float64)
    cells = viz.groups.over_pixels(GROUPS, 24, 30)
    drawn = np.asarray(viz.groups.draw_groups(image, GROUPS, size=30), dtype=np.float64)
    assert drawn.shape == pixels.shape
    inside = (cells == 1) & ~viz.groups.borders(cells, 1)
    assert np.abs(drawn[inside] - pixels[cells == 1].mean(0)).max() <= 0.5
    edge = viz.groups.borders(cells, 1) & (cells == 1)
    assert (drawn[edge] > pixels[cells == 1].mean(0)).all()


def test_dropped_patches_have_no_colour():
    drawn = np.asarray(viz.groups.draw_groups(noise_image(), GROUPS, size=30))
    dropped = drawn[viz.groups.over_pixels(GROUPS, 24, 30) == viz.groups.DROPPED]
    assert (dropped.max(1) == dropped.min(1)).all()


def test_borders_part_only_different_groups():
    one = np.zeros((3, 3), dtype=np.int64)
    assert not viz.groups.borders(viz.groups.over_pixels(one, 24, 24), 2).any()
    two = np.array([[0, 1]])
    lines = viz.groups.borders(viz.groups.over_pixels(two, 4, 8), 1)
    assert lines.sum() == 4
    assert lines[:, 4].all()


def test_pixels_are_spread_evenly_over_a_grid():
    cells = viz.groups.over_pixels(np.arange(6).reshape(2, 3), 8, 9)
    assert [(cells == group).sum() for group in range(6)] == [12] * 6
    assert cells[0, 0] == 0
    assert cells[7, 8] == 5


@pytest.mark.parametrize(
    "method",
    [
        "merge:r=3",
        "prune:r=3",
        "released:r=3",
        "merge:r=3,order=dropped",
        "merge:r=2,shuffle=1",
        "similar-merge:r=4,threshold=0.5",
    ],
)
def test_the_map_follows_each_patch_past_the_class_token(method):
    config = ModelConfig(num_classes=2, **SIZES)
    model = VisionMamba(config, parse_reduction(method)).eval()
    trace = model.trace(torch.randn(3, 3, 16, 16))
    for tokens in trace.blocks:
        groups = viz.groups.patch_groups(tokens, config)
        assert groups.shape == (3, 4, 4)
        for image in range(3):
            found = set(groups[image].ravel().tolist()) - {viz.groups.DROPPED}
            # every token but the class token is some patch's, and the class token is none's
            everybody = set(range(tokens.counts()[image]))
            if method.startswith("released"):
                assert len(found) == tokens.length - 1  # where it reports the class token to be is another matter
            else:
                assert found == everybody - {int(tokens.cls_index[image])}


def test_unreduced_every_patch_is_its_own_group_in_reading_order():
    config = ModelConfig(num_classes=2, **SIZES)
    tokens = VisionMamba(config).embed(torch.randn(1, 3, 16, 16))
    expected = np.delete(np.arange(17), config.cls_index).reshape(1, 4, 4)
    assert (viz.groups.patch_groups(tokens, config) == expected).all()


def test_rows_hold_the_image_and_each_block():
    model = rmeeto.create_model("vim_tiny", reduction="merge:r=3,blocks=all", **SIZES)
    rows = viz.merged_groups(model, [noise_image(seed=s) for s in (1, 2)], ["a", "b"], [1, 3])
    assert [row.name for row in rows] == ["a", "b"]
    assert [panel.title for panel in rows[0].panels] == ["image", "block 1: 14 tokens", "block 3: 8 tokens"]
    assert len({panel.picture.size for row in rows for panel in row.panels}) == 1


def test_a_title_gives_no_number_that_only_one_row_has():
    model = rmeeto.create_model("vim_tiny", reduction="similar-merge:r=3,blocks=all", **SIZES)
    (row,) = viz.merged_groups(model, [noise_image()], ["a"], [1])
    assert [panel.title for panel in row.panels] == ["image", "block 1"]


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


CLIP_SIZES = {**SIZES, "frames": 4}


def clip_model(reduction="merge:r=12,blocks=all", **options):
    return rmeeto.create_model("videomamba_tiny", reduction=reduction, **{**CLIP_SIZES, **options})


def noise_frames(count, seed=0):
    return [noise_image(seed=seed + number) for number in range(count)]


def test_a_groups_colour_is_one_through_time():
    groups = np.stack([GROUPS, np.array([[5, 0, 1], [2, 4, 4], [6, 3, -1]])])
    frames = noise_frames(2)
    drawn = [np.asarray(picture, dtype=float) for picture in viz.groups.draw_clip_groups(frames, groups, size=30)]
    pixels = np.stack([np.asarray(frame, dtype=float) for frame in frames])
    cells = np.stack([viz.groups.over_pixels(frame, 24, 30) for frame in groups])
    for group in set(np.unique(groups)) - {viz.groups.DROPPED}:
        mean = pixels[cells == group].mean(0)
        for time in range(2):
            inside = (cells[time] == group) & ~viz.groups.borders(cells[time], 1)
            assert np.abs(drawn[time][inside] - mean).max(initial=0) <= 0.5


def test_frames_of_one_patch_share_its_groups():
    still = [noise_image()] * 4
    drawn = viz.groups.draw_clip_groups(still, np.stack([GROUPS, GROUPS[::-1]]), size=30)
    same = [[np.array_equal(a, b) for b in drawn] for a in drawn]
    assert same == [[True, True, False, False]] * 2 + [[False, False, True, True]] * 2


@pytest.mark.parametrize("tubelet", [1, 2])
@pytest.mark.parametrize("method", ["merge:r=12,blocks=all", "prune:r=12,blocks=all"])
def test_the_map_of_a_clip_follows_each_patch_through_time(method, tubelet):
    model = clip_model(method, tubelet=tubelet).eval()
    clips = torch.randn(2, 3, 4, 16, 16)
    whole = model.embed(clips)
    expected = np.arange(1, model.config.tokens).reshape(1, 4 // tubelet, 4, 4)  # the class token is first
    assert (viz.groups.clip_groups(whole, model.config) == expected).all()
    tokens = model.trace(clips).blocks[-1]
    groups = viz.groups.clip_groups(tokens, model.config)
    assert groups.shape == (2, 4 // tubelet, 4, 4)
    for clip in range(2):
        found = set(groups[clip].ravel().tolist()) - {viz.groups.DROPPED}
        assert found == set(range(tokens.length)) - {int(tokens.cls_index[clip])}


def test_a_strip_and_moments_show_the_same_pictures():
    model = clip_model()
    clips = viz.merged_clip_groups(model, [torch.randn(3, 4, 16, 16)] * 2, ["a", "b"], [1, 3])
    rows = viz.strip(clips)
    assert [row.name.split("\n")[0] for row in rows] == ["a"] * 3 + ["b"] * 3
    assert rows[1].name == f"a\nblock 1: {model.schedule.tokens[1]} tokens"
    assert [panel.title for panel in rows[0].panels] == [f"frame {number}" for number in (1, 2, 3, 4)]
    moments = viz.moments(clips)
    assert len(moments) == 4
    for time, sheet in enumerate(moments):
        assert [row.name for row in sheet] == ["a", "b"]
        for place, panel in enumerate(sheet[1].panels):
            assert panel.picture is rows[3 + place].panels[time].picture
    with pytest.raises(ConfigError, match="block 4"):
        viz.merged_clip_groups(model, [torch.randn(3, 4, 16, 16)], ["a"], [4])


@pytest.mark.parametrize("name", ["film.gif", "film.mp4"])
def test_films_hold_every_frame_and_repeat(tmp_path, name):
    if name.endswith("mp4"):
        pytest.importorskip("av", reason='writing MP4 needs PyAV: pip install "rmeeto[video]"')
    clips = viz.merged_clip_groups(clip_model(), [torch.randn(3, 4, 16, 16)], ["a"], [3])
    viz.check_format(tmp_path / name, films=True)
    viz.save_animation(map(viz.figure, viz.moments(clips)), tmp_path / name)
    if name.endswith("gif"):
        with Image.open(tmp_path / name) as film:
            assert (film.n_frames, film.info["loop"], film.info["duration"]) == (4, 0, 250)
    else:
        from rmeeto.data.video import count_frames

        count, (width, height) = count_frames(tmp_path / name)
        assert count == 4
        assert width % 2 == height % 2 == 0
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_pictures_are_no_films():
    with pytest.raises(ConfigError, match=r"\.png"):
        viz.check_format(Path("a.mp4"))
    assert viz.is_animation(Path("a.MP4"))
    assert not viz.is_animation(Path("a.png"))
