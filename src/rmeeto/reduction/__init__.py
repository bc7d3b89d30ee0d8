"""Which tokens go where: no weights, no model."""

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
from rmeeto.reduction.protocol import Reduction
from rmeeto.reduction.released import ReleasedMerge, ReleasedTransformerMerge
from rmeeto.reduction.schedule import Schedule
from rmeeto.reduction.spec import parse_spec

METHODS = methods.METHODS | {method.name: method for method in (ReleasedMerge, ReleasedTransformerMerge)}


def parse_reduction(text: str) -> Reduction | None:
    """The reduction that a line such as ``merge:r=11,features=C`` describes; ``none`` is no reduction.

    >>> parse_reduction("merge:r=11")
    TokenMerge('merge:r=11')
    """
    return None if text.strip() == "none" else parse_spec(text, METHODS)


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
    "annealed",
    "parse_reduction",
]
