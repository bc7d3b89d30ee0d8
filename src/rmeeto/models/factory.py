"""create_model: a name, a folder or a hub address becomes a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from rmeeto.config import ModelConfig, TransformerConfig
from rmeeto.errors import CheckpointError, ConfigError
from rmeeto.models import checkpoint
from rmeeto.models.backbone import VisionMamba
from rmeeto.models.description import Description, describe
from rmeeto.ops.select import Impl, check_impl
from rmeeto.reduction import Reduction, as_reduction


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
        name: one of :func:`rmeeto.list_models`, an official long name, a folder that :func:`save_model` wrote,
            ``hf-hub:owner/name[@revision]`` with such a folder in it, or the name of a timm ``VisionTransformer``
            such as ``deit_small_patch16_224``, which is then ready for :func:`rmeeto.reduce`.
        pretrained: load the published weights of a named model (from the hub, or shipped with rmeeto).
        weights: load this ``.pth`` or ``.safetensors`` file, folder or hub address instead.
        reduction: a value such as ``TokenMerge(r=11)`` or its line ``"merge:r=11"``.
        impl: kernels to use: ``auto``, ``reference``, ``cpp`` or ``triton``.
        options: fields of :class:`ModelConfig` to change: ``num_classes``, ``img_size``, ``stride``, ``depth`` …; of a
            Transformer, timm's.
            The position table is resampled and a head of another class count replaced, both said aloud.

    Raises:
        UnknownName: no such model or option, with the nearest that exist.
        CheckpointError: weights that are missing, corrupt, unsafe or do not fit.
        ConfigError: sizes or a reduction that this model cannot have.

    >>> create_model("vim_tiny", reduction="merge:r=5").schedule.tokens[-1]
    142
    """
    described = describe(name)
    if not isinstance(described.config, TransformerConfig):
        check_impl(impl)
    if described.dynamic is not None:
        raise CheckpointError(
            f"build the model in {name}",
            why="it is a Dynamic Vision Mamba: what it reduces is in its weights, not in a reduction",
            fix="rmeeto.models.dyvm.load_dynamic(folder) builds it, in Python only",
        )
    reduction = as_reduction(described.reduction if reduction is None else reduction)
    if isinstance(described.config, TransformerConfig):
        transformer = _transformer(described, described.config, pretrained, weights, reduction, impl, options)
        return _with_class_names(transformer, described, weights)
    config, source = described.config, _weights(described, pretrained, weights)
    old_grid = config.grid
    state = None if source is None else checkpoint.read_weights(source)
    if state is not None and options.get("num_classes") is None:
        options["num_classes"] = checkpoint.class_count(state)
    if state is not None and options.get("registers") is None:
        options["registers"] = checkpoint.register_count(state)
    config = config.changed(**options)
    if state is not None:
        assert source is not None
        checkpoint.check_size(state, config, source)
        checkpoint.say_other_family(source, config)
    model = fresh_model(config, reduction, impl)
    if state is not None:
        assert source is not None
        checkpoint.load_into(model, checkpoint.fit(state, config, old_grid, source), source)
    return _with_class_names(model.eval(), described, weights)


def _with_class_names(model: VisionMamba, described: Description, weights: str | Path | None) -> VisionMamba:
    """Give a model the names saved with it, unless its weights come from elsewhere and have other classes."""
    model.class_names = described.class_names if weights is None else None
    return model


def fresh_model(config: ModelConfig | TransformerConfig, reduction: Reduction | None, impl: Impl) -> VisionMamba:
    """A network of these sizes with fresh weights.

    Raises:
        ConfigError: a Transformer that was put together by hand, or a reduction that does not fit.
    """
    if isinstance(config, TransformerConfig):
        from rmeeto.models.vit import named

        name, options = named.recipe(config)
        return cast(VisionMamba, named.create(name, reduction=reduction, options=options))
    return VisionMamba(config, reduction, impl=impl)


def _transformer(
    described: Description,
    config: TransformerConfig,
    pretrained: bool,
    weights: str | Path | None,
    reduction: Reduction | None,
    impl: str,
    options: dict[str, Any],
) -> VisionMamba:
    """One of timm's, by its name or as it was saved."""
    from rmeeto.models.vit import named

    if impl not in ("auto", "torch"):
        raise ConfigError(
            f"build {described.name} with impl={impl!r}",
            why="a Transformer has no scan; its attention is PyTorch's",
            fix="leave impl at auto",
        )
    name, built_with = described.name, dict[str, Any]()
    if described.folder is not None:
        name, built_with = named.recipe(config)
    model = named.create(
        name,
        pretrained=pretrained,
        source=checkpoint.resolve(weights) if weights is not None else described.folder,
        reduction=reduction,
        options={**built_with, **options},
    )
    # what the rest of the package reads of a model, both kinds have: config, reduction, schedule, impl, trace
    return cast(VisionMamba, model)


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
