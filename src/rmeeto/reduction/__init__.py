"""Which tokens go where: no weights, no model."""

from rmeeto.errors import ConfigError
from rmeeto.reduction import methods
from rmeeto.reduction.annealing import annealed
from rmeeto.reduction.methods import (
    MTR,
    STM,
    UTR,
    FambaV,
    HiddenStateAlignment,
    PiToMe,
    RandomMerge,
    RandomPrune,
    SimilarMerge,
    SimilarPrune,
    ToFu,
    TokenMerge,
    TokenPrune,
    TokenRecognition,
    ToMe,
)
from rmeeto.reduction.plan import Plan
from rmeeto.reduction.protocol import Reduction, Schedule
from rmeeto.reduction.released import ReleasedMerge, ReleasedTransformerMerge
from rmeeto.reduction.spec import parse_spec
from rmeeto.reduction.tokens import Tokens

METHODS = methods.METHODS | {method.name: method for method in (ReleasedMerge, ReleasedTransformerMerge)}


def parse_reduction(text: str) -> Reduction | None:
    """The reduction that a line such as ``merge:r=11,features=C`` describes; ``none`` is no reduction.

    >>> parse_reduction("merge:r=11")
    TokenMerge('merge:r=11')
    """
    if not isinstance(text, str):
        why = "a reduction is described by a line"
        raise ConfigError("read a reduction", given=f"a {type(text).__name__}", why=why, fix='such as "merge:r=11"')
    return None if text.strip() == "none" else parse_spec(text, METHODS)


def as_reduction(value: Reduction | str | None) -> Reduction | None:
    """A reduction as it is, or from its line.

    Raises:
        ConfigError: neither.
    """
    if isinstance(value, str):
        return parse_reduction(value)
    methods_there = all(callable(getattr(value, name, None)) for name in ("schedule", "step"))
    if value is None or (methods_there and not isinstance(value, type)):
        return value
    raise ConfigError(
        "reduce a model",
        given=f"{str(value)[:80]!r} ({type(value).__name__})",
        why="that is no reduction",
        fix='such as rmeeto.TokenMerge(r=11), "merge:r=11", or None for the whole model',
    )


__all__ = [
    "METHODS",
    "MTR",
    "STM",
    "UTR",
    "FambaV",
    "HiddenStateAlignment",
    "PiToMe",
    "Plan",
    "RandomMerge",
    "RandomPrune",
    "Reduction",
    "ReleasedMerge",
    "ReleasedTransformerMerge",
    "Schedule",
    "SimilarMerge",
    "SimilarPrune",
    "ToFu",
    "ToMe",
    "TokenMerge",
    "TokenPrune",
    "TokenRecognition",
    "Tokens",
    "annealed",
    "as_reduction",
    "parse_reduction",
]
