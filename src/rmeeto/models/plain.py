"""Whether a block is made of this package's own layers alone, as the kernels of a whole block take it to be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from rmeeto.models.layers import RMSNorm
from rmeeto.models.mixers import BidirectionalMixer
from rmeeto.ops.memory import is_dense

if TYPE_CHECKING:
    from rmeeto.models.block import Block

LAYERS = {
    nn.Linear: ("in_proj", "x_proj", "x_proj_b", "dt_proj", "dt_proj_b", "out_proj"),
    nn.Conv1d: ("conv1d", "conv1d_b"),
}


def is_plain(block: Block) -> bool:
    """Whether nobody has put something else in the place of a layer, or of a parameter.

    That is an adapter, a parametrisation, another norm; or a parameter that is not plain memory, such as a quantised
    one.
    """
    if type(block.norm) is not RMSNorm or type(block.mixer) is not BidirectionalMixer:
        return False
    if any(type(getattr(block.mixer, name)) is not kind for kind, names in LAYERS.items() for name in names):
        return False
    return all(is_dense(parameter) for part in (block.norm, block.mixer) for parameter in part.parameters())
