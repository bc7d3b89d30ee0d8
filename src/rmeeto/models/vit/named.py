"""timm's Transformers by name: described without weights, built with them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import is_model_in_modules, is_model_pretrained
from timm.models.vision_transformer import checkpoint_filter_fn

from rmeeto.config import TransformerConfig
from rmeeto.errors import CheckpointError, ConfigError, RmeetoWarning
from rmeeto.models import checkpoint
from rmeeto.models.loading import load_into
from rmeeto.models.vit.sizes import sizes
from rmeeto.models.vit.transformer import ReducibleTransformer, plain_transformer, reduce
from rmeeto.reduction import Reduction

MODULES = ("vision_transformer", "deit")


def is_named(name: str) -> bool:
    """Whether timm builds a VisionTransformer of this name."""
    return is_model_in_modules(name, MODULES)


def names() -> list[str]:
    """timm's VisionTransformers."""
    return [name for module in MODULES for name in timm.list_models(module=module)]


def address(name: str) -> str | None:
    """timm's configuration of the published weights; None if there are none."""
    return f"hf-hub:timm/{name}" if is_model_pretrained(name) else None


def describe(name: str) -> TransformerConfig:
    """The sizes of a named model, without creating its weights if timm can do that.

    Raises:
        ConfigError: a Transformer whose blocks cannot be reduced.
    """
    try:
        with torch.device("meta"):
            model = timm.create_model(name)
    except RuntimeError:  # before timm 1.0.20 or so, drop path rates were read back from tensors
        model = timm.create_model(name)
    return sizes(plain_transformer(model))


def recipe(config: TransformerConfig) -> tuple[str, dict[str, Any]]:
    """timm's name and options for a network of these sizes.

    Raises:
        ConfigError: it was put together by hand.
    """
    if config.architecture is None:
        raise ConfigError(
            "build a Transformer from its sizes",
            why="it was put together by hand, and timm has no name for it",
            fix="build it yourself, load its weights with load_state_dict, and call rmeeto.reduce",
        )
    return config.architecture, dict(config.options)


def create(
    name: str,
    *,
    pretrained: bool = False,
    source: Path | None = None,
    reduction: Reduction | None = None,
    options: dict[str, Any],
) -> ReducibleTransformer:
    """Build timm's model of this name, with published weights, with those of a file, or with fresh ones.

    Raises:
        ConfigError: options that the model does not take, or a network or reduction that does not fit.
        CheckpointError: weights that cannot be loaded or do not fit.
    """
    state = None if source is None else checkpoint.read_weights(source)
    if state is not None and options.get("num_classes") is None:
        options["num_classes"] = checkpoint.class_count(state)
    model: Any = _built(name, pretrained=pretrained and state is None, options=options)
    if state is not None:
        state = checkpoint_filter_fn(state, model)  # position tables for another size, files of other projects
        if checkpoint.class_count(state) not in (None, model.num_classes):
            state = {key: value for key, value in state.items() if not key.startswith("head.")}
            text = f"head replaced: the weights are for other classes than the model's {model.num_classes}; train it"
            warnings.warn(text, RmeetoWarning, stacklevel=3)
        assert source is not None
        load_into(model, state, source)
    reducible: ReducibleTransformer = reduce(model.eval(), reduction)
    return reducible


def _built(name: str, *, pretrained: bool, options: dict[str, Any]) -> Any:
    try:
        model: Any = timm.create_model(name, pretrained=pretrained, **options)
    except (TypeError, AssertionError) as error:
        raise ConfigError(
            f"build {name}",
            given=", ".join(f"{key}={value!r}" for key, value in options.items()),
            why=f"timm does not take these options ({error})",
            fix="options of a Transformer are those of timm's VisionTransformer: img_size, num_classes, depth …",
        ) from error
    except (OSError, RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"build a pretrained {name}" if pretrained else f"build {name}",
            why=f"timm could not ({type(error).__name__}: {str(error).strip().splitlines()[0][:200]})",
            fix="check the name and the network, or pass weights=FILE",
        ) from error
    if not hasattr(model, "_model_args"):  # older timm does not remember how it built a model
        model._model_args = dict(options)
    return model
