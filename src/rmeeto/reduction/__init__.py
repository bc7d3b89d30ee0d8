"""Which tokens go where: no weights, no model.

A method has no weights and no state. It is assigned to a model (``model.reduction = TokenMerge(r=11)``),
prints as the one line that :func:`parse_reduction` reads back, and is saved beside the weights.
"""

from rmeeto.errors import ConfigError
from rmeeto.reduction.annealing import annealed
from rmeeto.reduction.methods.alignment import HiddenStateAlignment
from rmeeto.reduction.methods.famba import FambaV
from rmeeto.reduction.methods.mtr import MTR
from rmeeto.reduction.methods.pairwise import TokenMerge, TokenPrune
from rmeeto.reduction.methods.pitome import PiToMe
from rmeeto.reduction.methods.random import RandomMerge, RandomPrune
from rmeeto.reduction.methods.recognition import TokenRecognition
from rmeeto.reduction.methods.stm import STM
from rmeeto.reduction.methods.threshold import SimilarMerge, SimilarPrune
from rmeeto.reduction.methods.tofu import ToFu
from rmeeto.reduction.methods.tome import ToMe
from rmeeto.reduction.methods.utr import UTR
from rmeeto.reduction.plan import Plan
from rmeeto.reduction.protocol import Reduction, Schedule
from rmeeto.reduction.released import ReleasedMerge, ReleasedTransformerMerge
from rmeeto.reduction.spec import parse_spec
from rmeeto.reduction.tokens import Tokens

METHODS: dict[str, type] = {
    method.name: method
    for method in (
        TokenMerge,
        TokenPrune,
        TokenRecognition,
        HiddenStateAlignment,
        MTR,
        UTR,
        STM,
        PiToMe,
        ToFu,
        ToMe,
        FambaV,
        SimilarMerge,
        SimilarPrune,
        RandomPrune,
        RandomMerge,
        ReleasedMerge,
        ReleasedTransformerMerge,
    )
}


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
