"""How the frames of a clip become a tensor: an image's transforms, the same for every frame."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, cast

import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms as tv
from torchvision.transforms import functional as tvf

from rmeeto.data.transforms import Augmentation, Preparation, Transform, as_mode, evaluation_steps, training_transform
from rmeeto.data.video import Frames
from rmeeto.runtime.randomness import seeded


@dataclass(frozen=True)
class AlikeOverFrames:
    """Random transforms of a clip: every frame meets the same draws, so that only what moves in the clip moves.

    Gives ``(1, c, t, h, w)``.
    """

    transform: Transform

    def __call__(self, frames: Frames) -> Tensor:
        """Apply the transform to each frame from one seed."""
        seed = random.getrandbits(62)
        tensors = []
        for frame in frames:
            with seeded(seed):
                tensors.append(self.transform(frame))
        return torch.stack(tensors, dim=1)[None]


def clip_training_transform(preparation: Preparation, augmentation: Augmentation) -> AlikeOverFrames:
    """Augment all frames of a clip alike. Raises what :func:`rmeeto.data.transforms.training_transform` raises."""
    return AlikeOverFrames(training_transform(preparation, augmentation, glyphs=False))


class CropsOverFrames:
    """Resize, crop, normalise; crops lie side by side along the longer side of the frames.

    Three crops of a wide clip are its left, middle and right; one is the middle, exactly as for an image.
    Of several segments gives ``(segments · crops, c, t, h, w)``, the crops of a segment together.
    """

    def __init__(self, preparation: Preparation, crops: int) -> None:
        self.mode, self.size, self.crops = preparation.mode, preparation.size, crops
        self.resize, middle, *rest = evaluation_steps(preparation, crop_pct=preparation.crop_pct)
        assert isinstance(middle, tv.CenterCrop), "timm's evaluation resizes, crops the middle, normalises"
        self.middle, self.finish = middle, tv.Compose(rest)

    def __call__(self, segments: tuple[Frames, ...]) -> Tensor:
        """Every crop of every segment."""
        views = []
        for frames in segments:
            resized = [self.resize(as_mode(frame, self.mode)) for frame in frames]
            views += [torch.stack([self._crop(f, number) for f in resized], dim=1) for number in range(self.crops)]
        return torch.stack(views)

    def _crop(self, frame: Image.Image, number: int) -> Tensor:
        if self.crops == 1:
            return cast(Tensor, self.finish(self.middle(frame)))
        height, width = self.size
        free = (frame.height - height, frame.width - width)
        share = number / (self.crops - 1)
        along_width = free[1] >= free[0]
        top = round(free[0] * (0.5 if along_width else share))
        left = round(free[1] * (share if along_width else 0.5))
        cropped: Any = tvf.crop(frame, top, left, height, width)
        return cast(Tensor, self.finish(cropped))
