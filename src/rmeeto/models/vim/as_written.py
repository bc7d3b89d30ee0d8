"""Which methods are as they were written, and which modules have others in their places.

A kernel that stands in for a method may do so only while that is the method that would be called.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from timm.layers.drop import DropPath
from torch import nn
from torch.nn.modules import module as modules_of_torch

from rmeeto.models.layers import PatchEmbed, RMSNorm
from rmeeto.models.layers.linear import has_own_forward
from rmeeto.models.vim.mixers import BidirectionalMixer

BACKWARD_HOOKS = (modules_of_torch._global_backward_hooks, modules_of_torch._global_backward_pre_hooks)


class Method(NamedTuple):
    """A method that a kernel stands in for, and the function that it stands in for."""

    owner: type
    name: str
    function: Any

    def of(self, owner: type) -> Method:
        """The same of a subclass, which may have another."""
        return self._replace(owner=owner)

    def is_as_written(self) -> bool:
        """Whether it is that function still: no subclass has another, and nothing was put in its place later."""
        return getattr(self.owner, self.name) is self.function


def methods_of(owner: type, *names: str) -> tuple[Method, ...]:
    """Methods as they are now; to be called where the class has just been made."""
    return tuple(Method(owner, name, getattr(owner, name)) for name in names)


METHODS = (
    *methods_of(
        BidirectionalMixer, "forward", "project", "directions", "project_direction", "convolve", "scan", "combine"
    ),
    *methods_of(RMSNorm, "forward", "add_residual"),
    *methods_of(PatchEmbed, "forward"),
    *(Method(owner, "forward", owner.forward) for owner in (nn.Linear, nn.Conv2d, nn.Conv3d, DropPath, nn.Dropout)),
)


def methods_are_as_written() -> bool:
    """Whether all methods of layers are."""
    return all(method.is_as_written() for method in METHODS)


def replaces_methods(module: nn.Module) -> bool:
    """Whether an object has a function of its own where its class has one."""
    replaced = (name for name in vars(module) if callable(getattr(type(module), name, None)))
    return any(name != "forward" or not has_own_forward(module) for name in replaced)


def passes_all(drop: nn.Module) -> bool:
    """Whether dropout or a drop path drops nothing, as in evaluation mode."""
    return type(drop) is nn.Identity or (type(drop) in (DropPath, nn.Dropout) and not drop.training)
