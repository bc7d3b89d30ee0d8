"""What a model costs, block by block, from its sizes and its schedule alone. Nothing is run.

Two conventions, always named beside the figure:

``paper``
    The authors' counter (reproduces Table 2): one multiply-add of a projection counts once, the scan 9·l·e·n, and
    only **one** of the two scan directions. Every reduction counts as the paper's matching and merging,
    6·l·d + 2·d·(l/2)² + r·d, for every method. Norms, activations and the position table are left out.
``exact``
    Floating-point operations: a multiply-add is two, exp, log, division and square root are one each. Both
    directions, norms, activations, and what the reduction itself computes are all counted.

With l tokens, width d, inner width e = 2d, n states, convolution width k and Δ rank ρ.
"""

from rmeeto.cost.count import BlockCost, Cost, count, flops, stack_of
from rmeeto.cost.network import Convention

__all__ = ["BlockCost", "Convention", "Cost", "count", "flops", "stack_of"]
