"""Budget: the schedule of a family that just meets a target, found by bisection. Plain numbers; knows no tensors."""

from __future__ import annotations

from collections.abc import Callable

from rmeeto.errors import ConfigError
from rmeeto.reduction.protocol import Schedule

Family = Callable[[float], Schedule]
HALVINGS = 48  # leaves less between two means than any two different schedules of a real network lie apart


def for_ratio(ratio: float, family: Family, most: float) -> Schedule:
    """The schedule whose reduction ratio comes closest.

    family: schedules by mean count per reducing block. most: a mean that removes all that can be removed.

    Raises:
        ConfigError: out of reach.
    """
    if (reachable := family(most)).ratio < ratio:
        raise ConfigError(
            f"reach a reduction ratio of {ratio:g}",
            given=f"{len(reachable.counts)} blocks, {reachable.start} tokens",
            why=f"removing all that the reducing blocks can remove reaches {reachable.ratio:.3f}",
            fix="ask for less, or reduce at more or earlier blocks",
        )
    return min(neighbours(family, most, lambda s: s.ratio >= ratio), key=lambda s: abs(s.ratio - ratio))


def for_operations(
    limit: float, asked: str, family: Family, most: float, cost: Callable[[Schedule], float]
) -> Schedule:
    """The schedule that removes least of those that cost at most ``limit`` operations.

    asked: the budget in the caller's words. cost: exact operations per image. family, most: as for :func:`for_ratio`.

    Raises:
        ConfigError: out of reach.
    """
    whole, least = cost(family(0.0)), cost(family(most))
    if least > limit:
        # the figures are shown a thousandth off, so that they stay within reach when rounded to four digits
        raise ConfigError(
            asked,
            given=f"{whole / 1e9:.4g} GFLOPs unreduced (exact convention)",
            why="removing all that the reducing blocks can remove, its own cost included, leaves "
            f"{1.001 * least / 1e9:.4g} GFLOPs, {0.999 * whole / least:.4g}× fewer",
            fix="ask for less, lower minimum, or reduce at more or earlier blocks",
        )
    return neighbours(family, most, lambda schedule: cost(schedule) <= limit)[1]


def neighbours(family: Family, most: float, fits: Callable[[Schedule], bool]) -> tuple[Schedule, Schedule]:
    """Two neighbours of a family: the larger does not fit, the smaller does; twice the whole one if that fits."""
    low, high = 0.0, most
    if fits(family(low)):
        return family(low), family(low)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if fits(family(middle)) else (middle, high)
    return family(low), family(high)
