"""Stochastic depth and dropout whose draws belong to an image, however a step is shared by processes and passes."""

from __future__ import annotations

from timm.layers.drop import DropPath
from torch import Tensor, nn

from rmeeto.randomness import rand_by_image


def draw_by_image(model: nn.Module) -> None:
    """Put the layers below in the place of timm's ``DropPath`` and PyTorch's ``Dropout`` that drop anything.

    They have no weights, and do what those do in any other respect.
    """
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) is DropPath and layer.drop_prob > 0:
                setattr(parent, name, DropPathByImage(layer.drop_prob, layer.scale_by_keep).train(layer.training))
            elif type(layer) is nn.Dropout and layer.p > 0:
                setattr(parent, name, DropoutByImage(layer.p).train(layer.training))


class DropPathByImage(DropPath):
    """Skip a branch for some images of a batch ``(b, …)``; see :func:`rmeeto.randomness.rand_by_image`."""

    def forward(self, x: Tensor) -> Tensor:
        """The images whose branch is kept, divided by the share that is kept; zeros for the others."""
        if not self.training:
            return x
        keep = 1 - self.drop_prob
        kept = rand_by_image((len(x), *[1] * (x.ndim - 1)), x.device) < keep
        return x * (kept.to(x.dtype) / keep if self.scale_by_keep and keep else kept.to(x.dtype))


class DropoutByImage(nn.Dropout):
    """Set some values of a batch ``(b, …)`` to zero; see :func:`rmeeto.randomness.rand_by_image`."""

    def forward(self, x: Tensor) -> Tensor:
        """The values that are kept, divided by the share that is kept."""
        if not self.training:
            return x
        keep = 1 - self.p
        kept = rand_by_image(x.shape, x.device) < keep
        return x * (kept.to(x.dtype) / keep if keep else kept.to(x.dtype))
