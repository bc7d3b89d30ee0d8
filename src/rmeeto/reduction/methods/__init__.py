"""The reduction methods, as frozen values: score · match · combine · order · schedule.

A method has no weights and no state. It is assigned to a model (``model.reduction = TokenMerge(r=11)``),
prints as the one line that :func:`rmeeto.reduction.parse_reduction` reads back, and is saved beside the weights.
"""

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
    )
}

__all__ = [
    "METHODS",
    "MTR",
    "STM",
    "UTR",
    "FambaV",
    "HiddenStateAlignment",
    "PiToMe",
    "RandomMerge",
    "RandomPrune",
    "SimilarMerge",
    "SimilarPrune",
    "ToFu",
    "ToMe",
    "TokenMerge",
    "TokenPrune",
    "TokenRecognition",
]
