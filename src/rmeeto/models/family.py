"""Families of networks: what the package must be told to reduce, count, build, save and load one more kind.

A further family is a class of sizes (:class:`rmeeto.config.Sizes`), a counter of operations
(:class:`rmeeto.cost.network.Network`), a class of models (:class:`rmeeto.models.reducible.ReducibleModel`), and a call:

>>> add_family(Family(config=ToyConfig, counter=ToyCounter, build=ToyModel, names={"toy_small": ToyConfig(depth=4)}))
>>> model = rmeeto.create_model("toy_small", reduction="merge:r=4")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rmeeto.config import ModelConfig, Sizes, TransformerConfig
from rmeeto.cost.count import COUNTERS
from rmeeto.cost.network import Network
from rmeeto.errors import CheckpointError, ConfigError
from rmeeto.models.described import Description
from rmeeto.models.reducible import ReducibleModel
from rmeeto.models.vim.fitting import fit
from rmeeto.models.weight_file import StateDict
from rmeeto.ops.select import check_impl
from rmeeto.reduction import Reduction

Options = dict[str, Any]
Fit = Callable[[Any, Options, StateDict, Path], tuple[Any, StateDict]]
Load = Callable[[Description, bool, Path | str | None, Reduction | None, Options], ReducibleModel]

SIZES = ("family", "input_size", "grid", "protected", "tokens", "depth", "num_classes")
COUNTER = ("stack", "widths", "block", "outside")


def check_no_kernels(impl: str) -> None:
    """Raise :class:`ConfigError` if kernels are chosen for a model that only PyTorch computes."""
    if impl not in ("auto", "torch"):
        raise ConfigError(
            f"build a model with impl={impl!r}",
            why="it has no scan: PyTorch computes all of it, and there are no other kernels to choose",
            fix="leave impl at auto",
        )


@dataclass(frozen=True)
class Family:
    """One kind of network.

    config: class of its sizes, a frozen dataclass; ``config.family`` is the name that saved models carry.
    counter: from such sizes to the operations of the network's parts.
    build: from sizes, a reduction and an ``impl`` to a model with fresh weights.
    fit: changes sizes by options and adapts a state dict to them; None loads only weights that fit as they are.
    load: builds a model with its weights; None lets :func:`rmeeto.create_model` join ``build`` and the weights.
    check_impl: raises :class:`RmeetoError` for kernels that the family cannot use.
    names: sizes of models that :func:`rmeeto.create_model` builds by name.
    """

    config: type[Any]
    counter: Callable[[Any], Network]
    build: Callable[[Any, Reduction | None, Any], Any]  # check_model looks at what comes
    fit: Fit | None = None
    load: Load | None = None
    check_impl: Callable[[str], None] = check_no_kernels
    names: Mapping[str, Sizes] = field(default_factory=dict)


# The builders import their networks when they are called: a description must not wait for timm.


def _build_vim(config: ModelConfig, reduction: Reduction | None, impl: Any) -> ReducibleModel:
    from rmeeto.models.vim.backbone import VisionMamba

    return VisionMamba(config, reduction, impl=impl)


def _build_vit(config: TransformerConfig, reduction: Reduction | None, impl: Any) -> ReducibleModel:
    from rmeeto.models.vit import named

    name, options = named.recipe(config)
    return named.create(name, reduction=reduction, options=options)


def _load_vit(
    described: Description,
    pretrained: bool,
    weights: Path | str | None,
    reduction: Reduction | None,
    options: Options,
) -> ReducibleModel:
    """timm builds its own models: by name with published weights, or as they were saved."""
    from rmeeto.models.vit import named

    name, built_with = described.name, Options()
    if described.folder is not None:
        name, built_with = named.recipe(described.config)  # type: ignore[arg-type]  # the row says TransformerConfig
    source = described.weights(weights, pretrained=False)  # published ones are timm's to find
    options = {**built_with, **options}
    return named.create(name, pretrained=pretrained, source=source, reduction=reduction, options=options)


def _refuse_dyvm(described: Description, *_: object) -> ReducibleModel:
    raise CheckpointError(
        f"build the model in {described.folder}",
        why="it is a Dynamic Vision Mamba: what it reduces is in its weights, not in a reduction",
        fix="rmeeto.models.dyvm.load_dynamic(folder) builds it, in Python only",
    )


FAMILIES: dict[str, Family] = {
    "vim": Family(ModelConfig, COUNTERS[ModelConfig], _build_vim, fit=fit, check_impl=check_impl),
    "vit": Family(TransformerConfig, COUNTERS[TransformerConfig], _build_vit, load=_load_vit),
    # sizes, counter and builder are those of the Vision Mamba inside; DynamicMamba.cost adds the heads that decide
    "dyvm": Family(ModelConfig, COUNTERS[ModelConfig], _build_vim, load=_refuse_dyvm, check_impl=check_impl),
}


def add_family(family: Family) -> None:
    """Make a family known to the whole package, under the name ``family.config.family``.

    Added again, it takes the place of the family of that name; those of this package stay.

    Raises:
        ConfigError: something is missing that the package reads, or the name is one of this package's.
    """
    config, counter = family.config, family.counter
    asked = f"add a family of networks with the sizes {config.__name__}"
    if not getattr(getattr(config, "__dataclass_params__", None), "frozen", False):
        raise ConfigError(asked, why="it is no frozen dataclass", fix="put @dataclass(frozen=True) before the class")
    missing = missing_parts(config, SIZES) + (missing_parts(counter, COUNTER) if isinstance(counter, type) else [])
    if missing:
        raise ConfigError(
            asked,
            why=f"these parts are missing: {', '.join(missing)}",
            fix="rmeeto.config.Sizes and rmeeto.cost.network.Network say what they are",
        )
    known = FAMILIES.get(config.family)
    if known is not None and known.build.__module__ == __name__:
        raise ConfigError(
            asked, given=f"family = {config.family!r}", why="rmeeto has a family of this name", fix="choose another"
        )
    FAMILIES[config.family], COUNTERS[config] = family, counter


def missing_parts(owner: type, names: Sequence[str]) -> list[str]:
    """The names that a class has neither as an attribute nor as a dataclass field, as ``Class.name``."""
    has = {*dir(owner), *getattr(owner, "__dataclass_fields__", ())}
    return [f"{owner.__name__}.{name}" for name in names if name not in has]


def family_of(name: object) -> Family:
    """The family of this name.

    Raises:
        ConfigError: no such family has been added.
    """
    family = FAMILIES.get(name) if isinstance(name, str) else None
    if family is None:
        raise ConfigError(
            "build a model of another family",
            given=f"family = {name!r}",
            why=f"only {', '.join(FAMILIES)} are known",
            fix="import the module that adds the family first",
        )
    return family
