"""Operations of a Dynamic Vision Mamba: fewer tokens, fewer scans, and the heads that decide about both."""

from __future__ import annotations

import math

from rmeeto.config import DynamicConfig, ModelConfig
from rmeeto.cost.attention import GELU, LAYER_NORM
from rmeeto.cost.count import BlockCost, Cost, stack_of
from rmeeto.cost.mamba import MambaNetwork
from rmeeto.cost.network import Convention
from rmeeto.errors import UnknownName

PER_DIRECTION = ("conv", "x_proj", "dt_proj", "scan", "skip and gate")


def dynamic_cost(
    config: ModelConfig, dynamic: DynamicConfig, *, convention: Convention = "exact", directions: float | None = None
) -> Cost:
    """Expected operations per image; ``paper`` counts one of the two directions, with the same probability.

    The paper does not count this method; in its convention we count the multiply-adds of the heads once, and nothing
    else of the heads. directions: the share of scan directions that runs, None for the config's.

    Raises:
        UnknownName: no such convention.
        ConfigError: blocks to put predictors before that the network lacks.
    """
    if convention not in ("paper", "exact"):
        raise UnknownName("FLOPs convention", convention, ("paper", "exact"))
    network, share = MambaNetwork(config), dynamic.directions if directions is None else directions
    schedule = dynamic.schedule(stack_of(config))
    stages = dynamic.stages(config.depth)
    blocks, before = [], schedule.start
    for number, after in enumerate(schedule.tokens):
        terms = network.block(before, after, convention)
        terms |= {name: share * terms[name] for name in PER_DIRECTION if name in terms}
        if number in stages:
            terms["predictor"] = _predictor(config.dim, before, convention)
        if dynamic.directions < 1:
            products = 2 * config.inner * 2
            terms["direction gates"] = products if convention == "paper" else 2 * products
        blocks.append(BlockCost(after, before - after, terms))
        before = after
    return Cost(convention, schedule, tuple(blocks), network.outside(before, convention))


def _predictor(dim: int, tokens: int, convention: Convention) -> float:
    half, quarter = dim // 2, dim // 4
    products = tokens * (dim * dim + dim * half + half * quarter + quarter)
    if convention == "paper":
        return products
    activations = GELU * (dim + half + quarter)
    summed = 2 * half  # weight and add, for the mean of the kept patches
    stream = dim
    return 2 * products + tokens * (stream + LAYER_NORM * dim + activations + summed + math.log2(tokens))
