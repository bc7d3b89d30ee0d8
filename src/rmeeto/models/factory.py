"""create_model: a name, a folder or a hub address becomes a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rmeeto.config import Sizes, changed
from rmeeto.models import checkpoint
from rmeeto.models.description import describe
from rmeeto.models.family import family_of
from rmeeto.models.loading import load_into
from rmeeto.models.reducible import ReducibleModel, check_model
from rmeeto.ops.select import Impl
from rmeeto.reduction import Reduction, as_reduction


def create_model(
    name: str,
    *,
    pretrained: bool = False,
    weights: str | Path | None = None,
    reduction: Reduction | str | None = None,
    impl: Impl = "auto",
    **options: Any,
) -> ReducibleModel:
    """Build a model, with or without weights.

    Args:
        name: one of :func:`rmeeto.list_models`, an official long name, a folder that :func:`save_model` wrote,
            ``hf-hub:owner/name[@revision]`` with such a folder in it, a name of a family that
            :func:`rmeeto.models.family.add_family` added, or the name of a timm ``VisionTransformer`` such as
            ``deit_small_patch16_224``, which is then ready for :func:`rmeeto.reduce`.
        pretrained: load the published weights of a named model (from the hub, or shipped with rmeeto).
        weights: load this ``.pth`` or ``.safetensors`` file, folder or hub address instead.
        reduction: a value such as ``TokenMerge(r=11)`` or its line ``"merge:r=11"``.
        impl: kernels to use: ``auto``, ``reference``, ``cpp`` or ``triton``.
        options: fields of :class:`ModelConfig` to change: ``num_classes``, ``img_size``, ``stride``, ``depth`` …; of
            another family, fields of its config; of a Transformer, timm's options.
            The position table is resampled and a head of another class count replaced, each with a warning.

    Raises:
        UnknownName: no such model or option, with the nearest that exist.
        CheckpointError: weights that are missing, corrupt, unsafe or do not fit.
        ConfigError: sizes or a reduction that this model cannot have.

    >>> create_model("vim_tiny", reduction="merge:r=5").schedule.tokens[-1]
    142
    """
    described = describe(name)
    family = family_of(described.family)
    family.check_impl(impl)
    reduction = as_reduction(described.reduction if reduction is None else reduction)
    if family.load is not None:
        model = check_model(family.load(described, pretrained, weights, reduction, options), described.family)
    else:
        source = described.weights(weights, pretrained=pretrained)
        state = None if source is None else checkpoint.read_weights(source)
        if family.fit is None or state is None or source is None:
            config = changed(described.config, options)
        else:
            config, state = family.fit(described.config, options, state, source)
        model = fresh_model(config, reduction, impl)
        if state is not None and source is not None:
            load_into(model, state, source)
    # names of classes belong to the weights that they were saved with
    model.class_names = described.class_names if weights is None else None
    return model.eval()


def fresh_model(config: Sizes, reduction: Reduction | None, impl: Impl) -> ReducibleModel:
    """A network of these sizes with fresh weights.

    Raises:
        ConfigError: a family that has not been added or lacks a part, a Transformer that was put together by hand, or
            a reduction that does not fit.
    """
    return check_model(family_of(config.family).build(config, reduction, impl), config.family)
