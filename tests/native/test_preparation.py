"""Pictures are prepared as timm and Pillow prepare them, bit for bit."""

import numpy as np
import pytest
import torch
from PIL import Image

from cpp_kernels import needs_kernels
from rmeeto import native
from rmeeto.data.transforms import Preparation, evaluation_transform
from small_models import model_of

pytestmark = needs_kernels
PICTURES = [(64, 64), (37, 53), (200, 41), (32, 32), (1, 1), (5, 300), (33, 31), (97, 64), (500, 333)]
MODELS = [
    {"crop_pct": 0.875},
    {"interpolation": "bilinear", "crop_pct": 0.9},
    {"crop_pct": 1.0, "in_chans": 1, "mean": (0.5,), "std": (0.25,)},
    {"img_size": (24, 40), "crop_pct": 0.95},
]


def picture(height, width, channels):
    """Noise, edges and flat places."""
    draws = np.random.default_rng(height * width)
    pixels = draws.integers(0, 256, (height, width, channels), np.uint8)
    pixels[: height // 2, : width // 2] = draws.integers(0, 2, (height // 2, width // 2, 1)) * 255
    pixels[height // 2 :, width // 2 :] = 200
    return Image.fromarray(pixels if channels == 3 else pixels[..., 0])


@pytest.mark.parametrize("options", MODELS)
def test_pictures_become_what_timm_makes_of_them(options, tmp_path):
    model = model_of(**options)
    transform = evaluation_transform(Preparation.of(model), glyphs=False)
    with native.load(native.save(model, tmp_path / "tiny.rmeeto")) as opened:
        for height, width in PICTURES:
            image = picture(height, width, model.config.in_chans)
            assert torch.equal(torch.from_numpy(opened.prepare(image)), transform(image)), (height, width)


def test_every_byte_is_normalised_as_torch_does_it(tmp_path):
    model = model_of(img_size=16, crop_pct=1.0, in_chans=1, mean=(0.485,), std=(0.229,))
    image = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
    transform = evaluation_transform(Preparation.of(model), glyphs=False)
    with native.load(native.save(model, tmp_path / "tiny.rmeeto")) as opened:
        assert torch.equal(torch.from_numpy(opened.prepare(image)), transform(image))


def test_frames_go_where_the_clip_has_them(tmp_path):
    model = model_of("videomamba_tiny", frames=4)
    transform = evaluation_transform(Preparation.of(model), glyphs=False)
    images = [picture(40 + i, 50, 3) for i in range(4)]
    with native.load(native.save(model, tmp_path / "tiny.rmeeto")) as opened:
        clip = np.zeros(opened.input_size, np.float32)
        for frame, image in enumerate(images):
            opened.prepare(image, clip, frame)
    assert torch.equal(torch.from_numpy(clip), torch.stack([transform(image) for image in images], 1))


def test_a_model_that_wants_another_filter_says_so(tmp_path):
    model = model_of(interpolation="lanczos")
    with (
        native.load(native.save(model, tmp_path / "tiny.rmeeto")) as opened,
        pytest.raises(native.NativeError, match='resized by "lanczos"'),
    ):
        opened.prepare(picture(40, 40, 3))
