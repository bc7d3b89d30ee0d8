"""timm's policies on the installed Pillow: every operation, every magnitude, every kind of image."""

import numpy as np
import pytest
from PIL import Image

from rmeeto.data import Augmentation, Preparation
from rmeeto.data.policy import operations
from rmeeto.data.transforms import training_transform
from toys import picture

COLOUR = Preparation(3, (24, 24), (0.4, 0.5, 0.6), (0.2, 0.3, 0.4), 0.875, "bicubic")
GREY = Preparation(1, (16, 16), (0.5,), (0.25,), 1.0, "bilinear")
POLICIES = [
    Augmentation().auto_augment,
    "rand-m10",
    "rand-m15-mmax30-mstd101",
    "rand-m30-mmax30-n3-inc1",
    "rand-m9-mstd0.5-t3aw",
    "rand-m9-tweights-inc1",
    "original",
    "original-mstd0.5",
    "originalr",
    "v0",
    "v0r-mstd2",
    "3a",
    "augmix-m5-w4-d2",
    "augmix-m10-mstd3-b1",
]
MAGNITUDES = (0, 0.4, *range(1, 11), 12.5, 15, 20, 30)
PICTURES = {
    "colour": picture((200, 100, 50), 0),
    "grey": picture((90, 90, 90), 1).convert("L"),
    "one pixel": picture((1, 2, 3), 2, size=1),
    "a line": Image.fromarray(np.arange(120, dtype=np.uint8).reshape(1, 40, 3)),
    "a column": Image.fromarray(np.arange(9, dtype=np.uint8).reshape(3, 1, 3)),
    "white": Image.new("RGB", (30, 20), "white"),
}


@pytest.mark.parametrize("policy", POLICIES)
def test_every_operation_of_a_policy_takes_every_picture_at_every_magnitude(policy):
    transform = training_transform(COLOUR, Augmentation(auto_augment=policy), glyphs=False)
    found = list(operations(transform))
    assert found
    for image in PICTURES.values():
        colour = image.convert("RGB")
        for operation in found:
            operation.prob, operation.magnitude_std = 1, 0
            for operation.magnitude in MAGNITUDES:
                changed = operation(colour)
                assert (changed.size, changed.mode) == (colour.size, "RGB")


@pytest.mark.parametrize("policy", POLICIES)
def test_whole_policies_give_finite_tensors(policy):
    for preparation in (COLOUR, GREY):
        transform = training_transform(preparation, Augmentation(auto_augment=policy), glyphs=False)
        for image in PICTURES.values():
            for _ in range(5):
                tensor = transform(image)
                assert tensor.shape == (preparation.channels, *preparation.size)
                assert tensor.isfinite().all()


def posterizing(policy):
    transform = training_transform(COLOUR, Augmentation(auto_augment=policy), glyphs=False)
    operation = next(operation for operation in operations(transform) if operation.name.startswith("Posterize"))
    operation.prob, operation.magnitude_std = 1, 0
    return operation


@pytest.mark.parametrize(("policy", "magnitude"), [("rand-m9-inc1", 10), ("rand-m9-mmax30-inc1", 30), ("v0", 2)])
def test_no_bits_left_is_black(policy, magnitude):
    operation = posterizing(policy)
    operation.magnitude = magnitude
    assert set(operation(PICTURES["white"]).tobytes()) == {0}


def test_bits_that_are_left_are_the_highest():
    operation = posterizing("rand-m9-inc1")
    operation.magnitude = 5  # two of eight bits
    assert set(operation(PICTURES["white"]).tobytes()) == {0b11000000}
    operation.magnitude = 0  # four
    assert operation(Image.new("RGB", (1, 1), (0b10101111, 15, 16))).getpixel((0, 0)) == (0b10100000, 0, 16)
