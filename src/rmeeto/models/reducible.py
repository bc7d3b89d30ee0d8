"""ReducibleModel: what the package reads of every model, whatever its family."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rmeeto.config import Sizes
from rmeeto.cost import Convention, Cost, count, stack_of
from rmeeto.errors import ConfigError
from rmeeto.reduction import Reduction, Schedule, as_reduction
from rmeeto.reduction.tokens import Tokens


@dataclass(frozen=True)
class Trace:
    """A forward pass and what its blocks saw.

    logits: ``(b, classes)``. blocks: the tokens that each block gives, counted after its reduction.
    final: the tokens that left the last block, normalised.
    """

    logits: Tensor
    blocks: tuple[Tokens, ...]
    final: Tokens


class ReducibleModel(nn.Module):
    """A model whose reduction can be assigned at any time.

    A family gives its models ``config``, :attr:`pretrained_cfg`, :meth:`iter_blocks`, :meth:`final_norm` and
    :meth:`classify`; the rest follows from them. The constructor assigns ``config`` and then :attr:`reduction`, which
    sets ``schedule``: how many tokens every block sees. This is a class and no ``typing.Protocol``, because what runs a
    model (PyTorch, accelerate, :func:`rmeeto.freeze`) takes an ``nn.Module``.
    """

    config: Sizes
    schedule: Schedule
    _reduction: Reduction | None
    _needs: frozenset[str]
    _class_names: tuple[str, ...] | None = None

    @property
    @abstractmethod
    def pretrained_cfg(self) -> dict[str, Any]:
        """How images are prepared, in timm's form: input_size, mean, std, crop_pct, interpolation."""

    @property
    def default_cfg(self) -> dict[str, Any]:
        """timm's older name for :attr:`pretrained_cfg`."""
        return self.pretrained_cfg

    @abstractmethod
    def iter_blocks(self, images: Tensor) -> Iterator[Tokens]:
        """The tokens that leave each block, one after the other."""

    @abstractmethod
    def final_norm(self, tokens: Tokens) -> Tokens:
        """The tokens that left the last block, with ``x`` normalised."""

    @abstractmethod
    def classify(self, tokens: Tokens) -> Tensor:
        """Logits ``(b, classes)`` of normalised tokens."""

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(b, classes)``."""
        return self.classify(self.encode(images))

    def forward_blocks(self, images: Tensor) -> Tokens:
        """The tokens that leave the last block."""
        for tokens in self.iter_blocks(images):
            last = tokens
        return last

    def encode(self, images: Tensor) -> Tokens:
        """The tokens that leave the last block, with ``x`` normalised; sizes and source map included."""
        return self.final_norm(self.forward_blocks(images))

    @property
    def num_classes(self) -> int:
        """Width of the logits."""
        return self.config.num_classes

    @property
    def impl(self) -> str:
        """Which kernels the model uses; ``torch`` means PyTorch's own."""
        return "torch"

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """What the classes are called, by label; None if that is unknown, or known for another number of classes.

        Saved with the model and loaded with it; :func:`rmeeto.retrain` takes them from the data.
        """
        names = self._class_names
        return names if names is not None and len(names) == self.num_classes else None

    @class_names.setter
    def class_names(self, names: Sequence[str] | None) -> None:
        self._class_names = None if names is None else tuple(names)

    @property
    def reduction(self) -> Reduction | None:
        """How tokens are reduced; None leaves the model whole. A line such as ``"merge:r=11"`` may be assigned too."""
        return self._reduction

    @reduction.setter
    def reduction(self, reduction: Reduction | str | None) -> None:
        reduction = as_reduction(reduction)
        stack = stack_of(self.config)
        self.schedule = stack.whole() if reduction is None else reduction.schedule(stack)
        self._reduction = reduction
        self._needs = frozenset() if reduction is None else reduction.needs

    def cost(self, convention: Convention = "exact") -> Cost:
        """Operations per image under the present reduction; :func:`rmeeto.flops` gives the same."""
        return count(self.config, self.reduction, convention=convention)

    def trace(self, images: Tensor) -> Trace:
        """A forward pass that keeps what each block saw: token counts, origins, sizes, source maps."""
        seen = tuple(self.iter_blocks(images))
        final = self.final_norm(seen[-1])
        return Trace(logits=self.classify(final), blocks=seen, final=final)

    def forward_counts(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, and how many tokens of each image every block left, ``(b, depth)`` int64."""
        counts = []
        for tokens in self.iter_blocks(images):
            counts.append(tokens.counts())
        return self.classify(self.final_norm(tokens)), torch.stack(counts, dim=1)

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters that weight decay would harm, biases and norms apart."""
        return set()

    def extra_repr(self) -> str:
        """The reduction and what it leaves, as the first line of the model's ``repr``."""
        tokens = self.schedule.tokens
        return f"reduction={self._reduction or 'none'}, tokens={self.schedule.start} … {tokens[-1]}"


PARTS = ("pretrained_cfg", "iter_blocks", "final_norm", "classify")


def check_model(model: nn.Module, family: str) -> ReducibleModel:
    """The model, if nothing is missing that the package reads of every model.

    Raises:
        ConfigError: another kind of model, or one that lacks parts, all of which are named.
    """
    if isinstance(model, ReducibleModel):
        missing = [part for part in PARTS if getattr(type(model), part) is getattr(ReducibleModel, part)]
        missing += [part for part in ("config", "schedule") if not hasattr(model, part)]
        if not missing:
            return model
        why = f"it lacks {', '.join(missing)}"
    else:
        why = "it is no ReducibleModel"
    raise ConfigError(
        f"build a model of the family {family}",
        given=f"a {type(model).__name__}",
        why=why,
        fix="derive it from rmeeto.models.reducible.ReducibleModel, define the parts that its docstring names, and let "
        "the constructor assign config and reduction",
    )
