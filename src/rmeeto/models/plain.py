"""Whether a block is made of this package's own layers alone, as the kernels of a whole block take it to be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from rmeeto.models.layers import RMSNorm
from rmeeto.models.linear import Linear
from rmeeto.models.mixers import BidirectionalMixer

if TYPE_CHECKING:
    from rmeeto.models.block import Block

LAYERS = {
    Linear: ("in_proj", "x_proj", "x_proj_b", "dt_proj", "dt_proj_b", "out_proj"),
    nn.Conv1d: ("conv1d", "conv1d_b"),
}


def is_plain(block: Block) -> bool:
    """Whether nobody has put something else in the place of a layer: an adapter, a parametrisation, another norm."""
    if type(block.norm) is not RMSNorm or type(block.mixer) is not BidirectionalMixer:
        return False
    return all(type(getattr(block.mixer, name)) is kind for kind, names in LAYERS.items() for name in names)
