"""A Vision Mamba as the backbone of a detector or segmenter, which reads maps instead of logits."""

from __future__ import annotations

from typing import Any, cast

from timm.models import FeatureInfo
from torch import Tensor, nn

from rmeeto.models.maps import check_format
from rmeeto.models.vim.backbone import VisionMamba


class FeatureMaps(nn.Module):
    """A backbone for detectors and segmenters: called, it gives a list of maps (timm's ``features_only=True``).

    ``feature_info`` says their channels and strides. Parts that the maps do not need are cut off the model, which is
    the attribute ``model``: ``maps.model.reduction = TokenMerge(r=11)`` works at any time.
    """

    def __init__(
        self, model: VisionMamba, out_indices: int | tuple[int, ...], *, norm: bool = False, output_fmt: str = "NCHW"
    ) -> None:
        super().__init__()
        check_format(output_fmt)
        self.out_indices = model.prune_intermediate_layers(out_indices, prune_norm=not norm)
        self.feature_info = FeatureInfo(model.feature_info, tuple(self.out_indices))
        self.model = model
        self.norm, self.output_fmt = norm, output_fmt

    @property
    def pretrained_cfg(self) -> dict[str, Any]:
        """How images are prepared, in timm's form, without what a backbone does not have: a head."""
        without = ("num_classes", "classifier", "global_pool")
        return {name: value for name, value in self.model.pretrained_cfg.items() if name not in without}

    @property
    def default_cfg(self) -> dict[str, Any]:
        """timm's older name for :attr:`pretrained_cfg`."""
        return self.pretrained_cfg

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """As the model's."""
        self.model.set_grad_checkpointing(enable)

    def forward(self, images: Tensor) -> list[Any]:
        """Maps over the full grid after the chosen blocks, in the order of the blocks."""
        maps = self.model.forward_intermediates(
            images, self.out_indices, norm=self.norm, output_fmt=self.output_fmt, intermediates_only=True
        )
        return cast("list[Any]", maps)
