"""Stochastic depth and dropout whose draws belong to an image, however a step is shared by processes and passes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from timm.layers.drop import DropPath
from torch import Tensor, nn

from rmeeto.runtime.randomness import rand_by_image


class LayersByImage:
    """The layers below, for each of timm's ``DropPath`` and PyTorch's ``Dropout`` in a model that drops anything.

    They have no weights, and do what those do in any other respect.
    """

    def __init__(self, model: nn.Module) -> None:
        self._places = [
            (parent, name, layer, own)
            for parent in model.modules()
            for name, layer in parent.named_children()
            if (own := _by_image(layer)) is not None
        ]

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """A block in which they stand in the model; outside of it the model is as it was built."""
        try:
            for parent, name, _, own in self._places:
                setattr(parent, name, own)
            yield
        finally:
            for parent, name, layer, _ in self._places:
                setattr(parent, name, layer)


def _by_image(layer: nn.Module) -> nn.Module | None:
    if type(layer) is DropPath and layer.drop_prob > 0:
        return DropPathByImage(layer.drop_prob, layer.scale_by_keep)
    if type(layer) is nn.Dropout and layer.p > 0:
        return DropoutByImage(layer.p)
    return None


class DropPathByImage(DropPath):
    """Skip a branch for some images of a batch ``(b, …)``; see :func:`rmeeto.runtime.randomness.rand_by_image`."""

    def forward(self, x: Tensor) -> Tensor:
        """The images whose branch is kept, divided by the share that is kept; zeros for the others."""
        if not self.training:
            return x
        return _kept(x, (len(x), *[1] * (x.ndim - 1)), 1 - self.drop_prob, scaled=self.scale_by_keep)


class DropoutByImage(nn.Dropout):
    """Set some values of a batch ``(b, …)`` to zero; see :func:`rmeeto.runtime.randomness.rand_by_image`."""

    def forward(self, x: Tensor) -> Tensor:
        """The values that are kept, divided by the share that is kept."""
        return _kept(x, x.shape, 1 - self.p, scaled=True) if self.training else x


def _kept(x: Tensor, shape: Sequence[int], keep: float, *, scaled: bool) -> Tensor:
    """``x`` where a draw of this shape is below ``keep``, divided by ``keep`` if scaled; zero elsewhere."""
    kept = (rand_by_image(shape, x.device) < keep).to(x.dtype)
    return x * (kept / keep if scaled and keep else kept)
