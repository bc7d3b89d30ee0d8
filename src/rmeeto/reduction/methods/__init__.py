"""The reduction methods, as frozen values: score · match · combine · order · schedule.

A method has no weights and no state. It is assigned to a model (``model.reduction = TokenMerge(r=11)``),
prints as the one line that :func:`rmeeto.parse_reduction` reads back, and is saved beside the weights.
"""

from rmeeto.reduction.methods.pairwise import TokenMerge, TokenPrune

METHODS: dict[str, type] = {method.name: method for method in (TokenMerge, TokenPrune)}

__all__ = ["METHODS", "TokenMerge", "TokenPrune"]
