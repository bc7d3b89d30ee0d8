import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from rmeeto import create_model
from rmeeto.data import Augmentation, Preparation, evaluation_transform
from rmeeto.data.transforms import as_mode, training_transform
from rmeeto.errors import ConfigError, DataError
from toys import picture

COLOUR = Preparation(3, (32, 24), (0.4, 0.5, 0.6), (0.2, 0.3, 0.4), 0.875, "bicubic")
GREY = Preparation(1, (16, 16), (0.5,), (0.25,), 1.0, "bilinear")


def test_preparation_is_read_from_the_model():
    model = create_model("vim_digits")
    assert Preparation.of(model) == Preparation(1, (16, 16), (0.5,), (0.5,), 1.0, "bicubic")


def test_models_of_other_channels_are_refused():
    model = create_model("vim_tiny", in_chans=4, dim=16, depth=2)
    with pytest.raises(DataError, match="in_chans=4"):
        Preparation.of(model)


@pytest.mark.parametrize("glyphs", [False, True])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "CMYK", "1"])
@pytest.mark.parametrize("preparation", [COLOUR, GREY], ids=["colour", "grey"])
def test_every_kind_of_image_fits_every_kind_of_model(preparation, mode, glyphs):
    image = picture((200, 100, 50), 0).convert(mode)
    shape = (preparation.channels, *preparation.size)
    for transform in (
        evaluation_transform(preparation, glyphs=glyphs),
        training_transform(preparation, Augmentation(), glyphs=glyphs),
    ):
        tensor = transform(image)
        assert tensor.shape == shape
        assert tensor.isfinite().all()


def test_evaluation_normalises_with_the_models_mean_and_std():
    tensor = evaluation_transform(COLOUR, glyphs=False)(Image.new("RGB", (40, 40), (51, 102, 204)))
    expected = (torch.tensor([0.2, 0.4, 0.8]) - torch.tensor([0.4, 0.5, 0.6])) / torch.tensor([0.2, 0.3, 0.4])
    torch.testing.assert_close(tensor, expected[:, None, None].expand(3, 32, 24))


def test_glyphs_are_evaluated_whole():
    framed = Image.new("L", (16, 16))
    framed.paste(255, (0, 0, 16, 1))
    preparation = Preparation(1, (16, 16), (0.0,), (1.0,), 0.5, "nearest")
    assert evaluation_transform(preparation, glyphs=True)(framed)[0, 0].sum() == 16
    assert evaluation_transform(preparation, glyphs=False)(framed).sum() == 0


def test_glyphs_are_never_mirrored_in_training():
    glyph = np.zeros((16, 16), np.uint8)
    glyph[:, :5] = 255  # a bar on the left
    transform = training_transform(GREY, Augmentation(), glyphs=True)
    for _ in range(50):
        tensor = transform(Image.fromarray(glyph))[0]
        assert tensor[:, :8].mean() > tensor[:, 8:].mean()


def test_photos_are_mirrored_in_training():
    photo = np.zeros((16, 16, 3), np.uint8)
    photo[:, :5] = 255
    plain = Augmentation(auto_augment=None, color_jitter=0, random_erasing=0)
    transform = training_transform(GREY, plain, glyphs=False)
    tensors = [transform(Image.fromarray(photo))[0] for _ in range(60)]
    sides = [(tensor[:, :8].mean() > tensor[:, 8:].mean()).item() for tensor in tensors]
    assert 10 < sum(sides) < 50


def test_sixteen_bit_grey_is_scaled_not_clipped():
    ramp = Image.fromarray((np.arange(256, dtype=np.uint16) * 256).reshape(16, 16))
    grey = np.asarray(as_mode(ramp, "L")).ravel()
    assert np.abs(grey.astype(int) - np.arange(256)).max() <= 1


def test_palette_with_transparency_gives_no_warning():
    image = Image.new("P", (4, 4))
    image.putpalette([255, 0, 0] * 256)
    image.info["transparency"] = b"\x00" * 256
    assert as_mode(image, "RGB").getpixel((0, 0)) == (255, 0, 0)


def test_unknown_augmentation():
    with pytest.raises(ConfigError, match="magic-m9"):
        training_transform(COLOUR, Augmentation(auto_augment="magic-m9"), glyphs=False)


def test_transforms_can_be_sent_to_worker_processes():
    for glyphs in (False, True):
        pickle.loads(pickle.dumps(training_transform(GREY, Augmentation(), glyphs=glyphs)))
        pickle.loads(pickle.dumps(evaluation_transform(COLOUR, glyphs=glyphs)))
