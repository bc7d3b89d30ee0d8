"""create_model: a name, a folder or a hub address becomes a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rmeeto.errors import CheckpointError
from rmeeto.models import checkpoint
from rmeeto.models.backbone import VisionMamba
from rmeeto.models.description import Description, describe
from rmeeto.ops.select import Impl
from rmeeto.reduction import Reduction, parse_reduction


def create_model(
    name: str,
    *,
    pretrained: bool = False,
    weights: str | Path | None = None,
    reduction: Reduction | str | None = None,
    impl: Impl = "auto",
    **options: Any,
) -> VisionMamba:
    """Build a model, with or without weights.

    Args:
        name: one of :func:`rmeeto.list_models`, an official long name, a folder that :func:`save_model` wrote, or
            ``hf-hub:owner/name[@revision]`` with such a folder in it.
        pretrained: load the published weights of a named model (from the hub, or shipped with rmeeto).
        weights: load this ``.pth`` or ``.safetensors`` file, folder or hub address instead.
        reduction: a value such as ``TokenMerge(r=11)`` or its line ``"merge:r=11"``.
        impl: kernels to use: ``auto``, ``reference``, ``cpp`` or ``triton``.
        options: fields of :class:`ModelConfig` to change: ``num_classes``, ``img_size``, ``stride``, ``depth`` ….
            The position table is resampled and a head of another class count replaced, both said aloud.

    Raises:
        UnknownName: no such model or option, with the nearest that exist.
        CheckpointError: weights that are missing, corrupt, unsafe or do not fit.
        ConfigError: sizes or a reduction that this model cannot have.

    >>> create_model("vim_tiny", reduction="merge:r=5").schedule.tokens[-1]
    142
    """
    described = describe(name)
    config, source = described.config, _weights(described, pretrained, weights)
    old_grid = config.grid
    state = None if source is None else checkpoint.read_weights(source)
    if state is not None and options.get("num_classes") is None:
        options["num_classes"] = checkpoint.class_count(state)
    config = config.changed(**options)
    if isinstance(reduction, str):
        reduction = parse_reduction(reduction)
    elif reduction is None and described.reduction is not None:
        reduction = parse_reduction(described.reduction)
    model = VisionMamba(config, reduction, impl=impl)
    if state is not None:
        assert source is not None
        checkpoint.load_into(model, checkpoint.fit(state, config, old_grid), source)
    return model.eval()


def _weights(described: Description, pretrained: bool, weights: str | Path | None) -> Path | None:
    """Where the weights are: those asked for, those a saved model comes with, the published ones, or nowhere."""
    if weights is not None:
        return checkpoint.resolve(weights)
    if described.folder is not None:
        return described.folder
    if not pretrained:
        return None
    if described.pretrained is None:
        raise CheckpointError(
            f"build a pretrained {described.name}",
            why="nobody has published weights for it",
            fix="pass weights=FILE, or leave pretrained out",
        )
    return checkpoint.resolve(described.pretrained)
