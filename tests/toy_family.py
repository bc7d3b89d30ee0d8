"""A backbone that rmeeto has never heard of: each block looks at every token beside the mean of all."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from timm.layers import DropPath
from torch import nn

from rmeeto.models.family import Family, add_family
from rmeeto.models.pooling import mean_token
from rmeeto.models.reducible import ReducibleModel
from rmeeto.reduction.protocol import Stack, Widths
from rmeeto.reduction.tokens import Tokens


@dataclass(frozen=True)
class ToyConfig:
    family: ClassVar[str] = "toy"
    protected: ClassVar[tuple[int, ...]] = (0,)
    side: int = 16
    dim: int = 16
    depth: int = 4
    num_classes: int = 3
    drop_path_rate: float = 0.0

    input_size = property(lambda self: (3, self.side, self.side))
    grid = property(lambda self: (self.side // 4,) * 2)
    tokens = property(lambda self: self.grid[0] * self.grid[1] + 1)


@dataclass(frozen=True)
class ToyCounter:
    config: ToyConfig

    stack = property(lambda self: Stack(self.config.depth, self.config.tokens, first=0))
    widths = property(lambda self: Widths(features={"X": self.config.dim}, directional=(), moved=self.config.dim))

    def block(self, before, after, convention):
        return {"linear": after * 2 * self.config.dim**2 * (1 if convention == "paper" else 2)}

    def outside(self, last, convention):
        return {"head": self.config.dim * self.config.num_classes}


class ToyModel(ReducibleModel):
    @property
    def pretrained_cfg(self):
        normal = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
        return {"input_size": self.config.input_size, **normal, "crop_pct": 1.0, "interpolation": "bilinear"}

    def __init__(self, config, reduction=None, impl="auto"):
        super().__init__()
        self.config, self.reduction = config, reduction
        self.patches = nn.Conv2d(3, config.dim, 4, 4)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.dim))
        self.blocks = nn.ModuleList(nn.Linear(2 * config.dim, config.dim) for _ in range(config.depth))
        self.drop_path = DropPath(config.drop_path_rate)
        self.norm, self.head = nn.LayerNorm(config.dim), nn.Linear(config.dim, config.num_classes)

    def iter_blocks(self, images):
        patches = self.patches(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(images), -1, -1), patches], dim=1)
        tokens = Tokens(x=x, residual=None, protected=torch.zeros(len(x), 1, dtype=torch.long, device=x.device))
        for block, step in zip(self.blocks, self.schedule.steps, strict=True):
            tokens = self.reduction.step(tokens, None, step) if step.r else tokens
            mean = mean_token(tokens.x, tokens.sizes())[:, None].expand_as(tokens.x)
            change = block(torch.cat([tokens.x, mean], dim=-1)).tanh()
            tokens = tokens.replace(x=tokens.x + self.drop_path(change))
            yield tokens

    def final_norm(self, tokens):
        return tokens.replace(x=self.norm(tokens.x))

    def classify(self, tokens):
        return self.head(tokens.x[:, 0])


add_family(Family(config=ToyConfig, counter=ToyCounter, build=ToyModel, names={"toy_tiny": ToyConfig()}))
