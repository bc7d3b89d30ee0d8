"""create_model: a name, a folder or a hub address becomes a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rmeeto.errors import CheckpointError, UnknownName
from rmeeto.models import checkpoint, zoo
from rmeeto.models.backbone import VisionMamba
from rmeeto.models.config import ModelConfig
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
    config, saved_reduction, source = _describe(name, pretrained, weights)
    old_grid = config.grid
    state = None if source is None else checkpoint.read_weights(source)
    if state is not None and options.get("num_classes") is None:
        options["num_classes"] = checkpoint.class_count(state)
    config = config.changed(**options)
    if isinstance(reduction, str):
        reduction = parse_reduction(reduction)
    elif reduction is None and saved_reduction is not None:
        reduction = parse_reduction(saved_reduction)
    model = VisionMamba(config, reduction, impl=impl)
    if state is not None:
        assert source is not None
        checkpoint.load_into(model, checkpoint.fit(state, config, old_grid), source)
    return model.eval()


def _describe(name: str, pretrained: bool, weights: str | Path | None) -> tuple[ModelConfig, str | None, Path | None]:
    """The config, the saved reduction if any, and the weight file that a request names."""
    if name.startswith(("hf-hub:", "local-dir:")) or Path(name).is_dir():
        folder = checkpoint.resolve(name)
        content = checkpoint.read_config(folder)
        if content is None:
            raise CheckpointError(
                f"build the model in {name}",
                why=f"there is no {checkpoint.CONFIG} beside the weights to say what it is",
                fix=f"name the model and pass weights={name}",
            )
        config = _read_sizes(content.get("config"), folder)
        return config, content.get("reduction"), folder if weights is None else checkpoint.resolve(weights)
    _, entry = zoo.find(name)
    if weights is not None:
        return entry.config, None, checkpoint.resolve(weights)
    if not pretrained:
        return entry.config, None, None
    if entry.packaged_path is not None:
        return entry.config, None, checkpoint.resolve(entry.packaged_path)
    return entry.config, None, checkpoint.resolve(f"hf-hub:{entry.hub}")


def _read_sizes(sizes: object, folder: Path) -> ModelConfig:
    try:
        return ModelConfig().changed(**dict(sizes))  # type: ignore[call-overload]
    except (TypeError, ValueError, UnknownName) as error:
        raise CheckpointError(
            f"build the model in {folder}",
            why=f"its {checkpoint.CONFIG} does not describe one ({error})",
            fix="restore the file, or name the model and pass the folder as weights",
        ) from error
