"""Weights loaded strictly into a model."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from rmeeto.errors import CheckpointError
from rmeeto.models.vim.zoo import REGISTERS, likely_models
from rmeeto.models.weight_file import StateDict, check_dtypes

DIFF_LINES = 12


def load_into(model: nn.Module, state: StateDict, source: str | Path) -> None:
    """Load strictly. Only a head that :func:`fit` dropped and registers may be missing.

    Raises:
        CheckpointError: with a ``+/-`` diff of the keys, and the family the file seems to belong to.
    """
    expected = model.state_dict()
    if not expected.keys() & state.keys():
        raise CheckpointError(
            f"load weights from {source}",
            given=f"{len(state)} tensors: {', '.join(list(state)[:3])}{' …' if len(state) > 3 else ''}",
            why=f"the model knows none of these names; its own are {', '.join(list(expected)[:3])} …",
            fix=likely_models(state),
        )
    fresh = {REGISTERS} if "head.weight" in state else {REGISTERS, "head.weight", "head.bias"}
    diff = [f"- {name} {tuple(t.shape)}" for name, t in expected.items() if name not in state and name not in fresh]
    diff += [f"+ {name} {tuple(t.shape)}" for name, t in state.items() if name not in expected]
    diff += [
        f"! {name} model {tuple(expected[name].shape)}, file {tuple(t.shape)}"
        for name, t in state.items()
        if name in expected and t.shape != expected[name].shape
    ]
    if diff:
        shown = diff[:DIFF_LINES] + ([f"… {len(diff) - DIFF_LINES} more"] if len(diff) > DIFF_LINES else [])
        raise CheckpointError(
            f"load weights from {source}",
            given=f"{len(state)} tensors for a model of {len(expected)}",
            why="they do not fit (- missing, + unknown, ! other shape):\n         " + "\n         ".join(shown),
            fix=likely_models(state),
        )
    check_dtypes(state, expected, source)
    model.load_state_dict(state, strict=False)
