"""DynamicConfig: how much of itself a Dynamic Vision Mamba runs. Knows no tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rmeeto.checks import number, whole_number
from rmeeto.errors import ConfigError
from rmeeto.reduction.protocol import Schedule, Stack


@dataclass(frozen=True, kw_only=True)
class DynamicConfig:
    """The share of its tokens and of its scans that a network learns to run (DyVM).

    keep: ρ, the share of its patches that each predictor keeps; the s-th leaves ρˢ of an image's patches. 1 keeps all
        and needs no predictors. The authors use 0.9 for Vim-Ti, 0.7 for Vim-S and Vim-B.
    directions: share of the scan directions to run, over all blocks and images; 1 runs all and needs no gates. It is
        the mean that training aims at, over random draws. In eval mode every image runs the directions whose gate is
        above one half, which is another share as long as the gates are undecided: measure it. The authors use 0.8, 0.7
        for Vim-B.
    blocks: those that a predictor stands before, counted from 0; None is after each quarter of the depth
        (6, 12 and 18 of 24).

    Raises:
        ConfigError: impossible shares, or blocks not in rising order; blocks that a network lacks, when given to it.
    """

    family: ClassVar[str] = "dyvm"

    keep: float = 0.7
    directions: float = 0.8
    blocks: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("keep", "directions"):
            share = number("run a share of a network", name, getattr(self, name))
            object.__setattr__(self, name, share)
            if not 0 < share <= 1:
                raise ConfigError(f"run a network with {name}={share}", why="it is a share: above 0, at most 1")
        if self.blocks is None:
            return
        if not isinstance(self.blocks, list | tuple):
            given = f"blocks={self.blocks!r}"
            raise ConfigError("put token predictors before blocks", given=given, why="blocks are a list of numbers")
        # a list is welcome; a value must be hashable
        asked = "put token predictors before blocks in rising order"
        blocks = tuple(whole_number(asked, "blocks", block, least=0) for block in self.blocks)
        object.__setattr__(self, "blocks", blocks)
        if not self.blocks or list(self.blocks) != sorted(set(self.blocks)):
            raise ConfigError(
                "put token predictors before blocks",
                given=f"blocks={self.blocks}",
                why="blocks count from 0, and each predictor sees the tokens that the one before it has left",
                fix="name at least one block, in rising order",
            )

    def stages(self, depth: int) -> dict[int, float]:
        """The blocks that a predictor stands before, and the share ρˢ of an image's patches that passes each."""
        if self.keep == 1:
            return {}
        blocks = self.blocks if self.blocks is not None else tuple(depth * quarter // 4 for quarter in (1, 2, 3))
        if blocks[-1] >= depth or len(set(blocks)) < len(blocks):
            raise ConfigError(
                f"put token predictors before blocks {', '.join(map(str, blocks))}",
                given=f"a network of {depth} blocks",
                why=f"its blocks are 0 to {depth - 1}, and two predictors cannot share one",
                fix="name the blocks, for instance blocks=(1,)",
            )
        return {block: self.keep**stage for stage, block in enumerate(blocks, 1)}

    def schedule(self, stack: Stack) -> Schedule:
        """Patches to drop at each block of a network; one is always left."""
        patches = left = stack.tokens - stack.protected
        counts = [0] * stack.depth
        for block, share in self.stages(stack.depth).items():
            wanted = max(1, round(share * patches))
            counts[block], left = left - wanted, wanted
        return Schedule(tuple(counts), stack.tokens)
