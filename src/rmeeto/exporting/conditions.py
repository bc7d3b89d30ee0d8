"""What cannot be exported, and why: asked before anything is written."""

from __future__ import annotations

from rmeeto.errors import ConfigError
from rmeeto.models.reducible import ReducibleModel
from rmeeto.models.vim.backbone import VisionMamba
from rmeeto.models.vit.transformer import ReducibleTransformer
from rmeeto.reduction import STM, Reduction, TokenMerge, TokenPrune

EXPORTED = (TokenMerge, TokenPrune, STM)
RANDOM_CHOICES = ("grouping", "rank", "pairing")


def check_model(model: ReducibleModel) -> None:
    """Raise :class:`ConfigError` for a model that cannot be exported."""
    asked = f"export a {type(model).__name__}"
    if not isinstance(model, VisionMamba | ReducibleTransformer):
        known = "Vision Mambas of images and clips, and reduced Vision Transformers"
        raise ConfigError(asked, why=f"only {known} can be exported", fix="PyTorch's own torch.export may take it")
    pooled = getattr(model.config, "global_pool", getattr(model.config, "pool", "token"))
    if not model.num_classes or pooled == "":
        raise ConfigError(
            asked,
            given=f"num_classes={model.num_classes}, global_pool={pooled!r}",
            why="it gives features of tokens and no logits, so there are no classes to name and compare",
            fix="build it with classes and a pooling",
        )


def check_reduction(reduction: Reduction | None) -> None:
    """Raise :class:`ConfigError` for a reduction that cannot be exported."""
    if reduction is None:
        return
    if type(reduction) not in EXPORTED:
        why = (
            "it removes another number of tokens from each input, and a graph has fixed lengths"
            if reduction.varies
            else "the check after an export cannot tell its ties from errors"
        )
        names = ", ".join(method.name for method in EXPORTED)
        raise ConfigError(f"export a model reduced by {reduction}", why=why, fix=f"these can be exported: {names}")
    draws = [f"{name}=random" for name in RANDOM_CHOICES if getattr(reduction, name, None) == "random"]
    draws += ["shuffle"] if getattr(reduction, "shuffle", 0) else []
    if draws:
        raise ConfigError(
            f"export a model reduced by {reduction}",
            given=", ".join(draws),
            why="it draws at random, and runtimes do not draw what PyTorch draws",
            fix="leave these options out; they are for comparisons",
        )


def check_precision(format_name: str, precision: str) -> None:
    """Raise :class:`ConfigError` for a precision that a format does not have."""
    if precision != "float32":
        raise ConfigError(
            f"export to {format_name} in {precision}",
            why="its runtimes compute this graph on a processor in float32; in less, matching decides otherwise",
            fix="leave --precision at float32",
        )
