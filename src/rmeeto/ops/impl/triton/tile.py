"""How much of the scan one program holds, and the rule that picks it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

import torch
import triton
from torch import Tensor


class Tile(NamedTuple):
    """What one program of the scan holds: ``rows`` × ``lanes`` channels; ``chunk`` tokens between kept states.

    A (rows, states, lanes) block is loaded from memory where a channel's states lie side by side (A, the kept
    states, the gradient of A). Triton then gives a thread 4 consecutive states of one lane in every row. With 16
    states and 8 lanes a warp is exactly full, sums over states cost 2 shuffles per row, and the backward's sums
    over channels add the rows before they cost 3 shuffles per state: the cheapest split of 32 channels.
    """

    rows: int = 4
    lanes: int = 8
    chunk: int = 1
    warps: int = 1

    @property
    def channels(self) -> int:
        """Channels of one program."""
        return self.rows * self.lanes


# With too few programs for the device four warps share one: twice the work in all, but a shorter walk.
FORWARD_TILES = {"many": Tile(), "few": Tile(warps=4)}
BACKWARD_TILES = {"many": Tile(chunk=4), "few": Tile(chunk=8, warps=4)}


def tile_for(tiles: Mapping[str, Tile], u: Tensor) -> Tile:
    """Return the tile for as many programs as ``u`` asks for, against what the device has room for."""
    programs = u.shape[0] * triton.cdiv(u.shape[2], tiles["many"].channels)
    return tiles["many" if programs >= _multiprocessors(u.device) else "few"]


@cache
def _multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 0
