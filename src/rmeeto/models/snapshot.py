"""Whether modules are as they were when something was made from them.

What is seen: other parameters, parts or settings; changed values of parameters; hooks, on these modules or on all;
replaced methods, in an object or in its class. Not seen: a change of a few values that goes around PyTorch's counting
of changes, as ``parameter.data[0] = 1`` does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from timm.layers.drop import DropPath
from torch import Tensor, nn
from torch.nn.modules import module as modules_of_torch
from torch.utils.hooks import RemovableHandle

from rmeeto.models.layers import PatchEmbed, RMSNorm
from rmeeto.models.linear import FORWARD_HOOKS, has_own_forward
from rmeeto.models.mixers import BidirectionalMixer
from rmeeto.ops.watch import Entry, ObjectWatch, TensorWatch, compare

BACKWARD_HOOKS = (modules_of_torch._global_backward_hooks, modules_of_torch._global_backward_pre_hooks)
SETTINGS: dict[type, tuple[str, ...]] = {
    RMSNorm: ("eps", "impl"),
    BidirectionalMixer: ("scale", "impl"),
    DropPath: ("training",),
    nn.Dropout: ("training",),
    nn.Conv2d: ("stride", "padding", "dilation", "groups", "padding_mode"),
    nn.Conv3d: ("stride", "padding", "dilation", "groups", "padding_mode"),
}
KERNELS = ("auto", "cpp")  # what `impl` may be where the library computes


class Method(NamedTuple):
    """A method that a kernel stands in for, and the function that it stands in for."""

    kind: type
    name: str
    function: Any

    def of(self, kind: type) -> Method:
        """The same of a subclass, which may have another."""
        return self._replace(kind=kind)

    def is_as_written(self) -> bool:
        """Whether it is that function still, and not one that a subclass or somebody later put in its place."""
        return getattr(self.kind, self.name) is self.function


def methods_of(kind: type, *names: str) -> tuple[Method, ...]:
    """Methods as they are now; to be called where the class has just been made."""
    return tuple(Method(kind, name, getattr(kind, name)) for name in names)


METHODS = (
    *methods_of(BidirectionalMixer, "forward", "project", "directions", "walk", "convolve", "scan", "combine"),
    *methods_of(RMSNorm, "forward", "join"),
    *methods_of(PatchEmbed, "forward"),
    *(
        method
        for kind in (nn.Linear, nn.Conv2d, nn.Conv3d, DropPath, nn.Dropout)
        for method in methods_of(kind, "forward")
    ),
)


def methods_are_as_written() -> bool:
    """Whether all methods of layers are."""
    return all(method.is_as_written() for method in METHODS)


class Snapshot:
    """What modules compute by, as it is now.

    Args:
        modules: whose parameters, parts, settings and methods count.
        called: those among them whose hooks count, because they will not be called.
        methods: of other classes, that are not called either.
        settings: further ``(module, name)``.
        entries: further entries of dictionaries, which must stay the same objects.
    """

    def __init__(
        self,
        modules: Iterable[nn.Module],
        called: Iterable[nn.Module],
        methods: Sequence[Method],
        settings: Sequence[tuple[nn.Module, str]] = (),
        entries: Sequence[Entry] = (),
    ) -> None:
        self._modules, methods = [*modules], (*METHODS, *methods)
        self._owners, self._names = [method.kind for method in methods], [method.name for method in methods]
        self._functions = [method.function for method in methods]
        self._types = [*map(type, self._modules)]
        parts = [(of, name, of[name]) for module in self._modules for of in _parts_of(module) for name in of]
        self._entries: list[Entry] = [*parts, *entries]
        named = [(module, name) for module in self._modules for name in SETTINGS.get(type(module), ())]
        self._settings: list[Entry] = [(vars(module), name, vars(module)[name]) for module, name in [*named, *settings]]
        self._hooks = [hooks for module in called for hooks in (module._forward_hooks, module._forward_pre_hooks)]
        lists = [module._modules for module in self._modules if isinstance(module, nn.ModuleList)]
        self._counted: list[tuple[dict[Any, Any], int]] = [(one, len(one)) for one in lists]
        self._tensors = TensorWatch([part for _, _, part in parts if isinstance(part, Tensor)])
        self._objects: ObjectWatch | None = None
        self._hooks_so_far: int | None = None

    def holds(self) -> bool:
        """Whether all of that is as it was."""
        if any(FORWARD_HOOKS) or self._are_hooked():
            return False
        if [*map(getattr, self._owners, self._names)] != self._functions:
            return False
        are_same, tensors_are_same = compare(self._objects, self._tensors)
        return tensors_are_same and ((self._objects is not None and are_same) or self._are_equal())

    def _are_hooked(self) -> bool:
        """Whether somebody waits for one of the modules to be called.

        PyTorch numbers all hooks of a process; while no other has been registered there is nothing to look for.
        """
        if self._hooks_so_far == RemovableHandle.next_id:
            return False
        so_far = RemovableHandle.next_id
        if any(self._hooks):
            return True
        self._hooks_so_far = so_far
        return False

    def _are_equal(self) -> bool:
        """Whether objects do what those of then did; these are then the ones to compare with."""
        if [*map(type, self._modules)] != self._types:
            return False
        if any(len(counted) != count for counted, count in self._counted):
            return False
        if any(of.get(name) is not part for of, name, part in self._entries):
            return False
        if not all(name in of and _is_equal(name, of[name], value) for of, name, value in self._settings):
            return False
        if any(map(replaces_methods, self._modules)):
            return False
        settings = [(of, name, of[name]) for of, name, _ in self._settings]
        attributes = [*map(vars, self._modules)]  # a method that is replaced from now on adds one, or is another
        forwards = [(of, "forward", of["forward"]) for of in attributes if "forward" in of]
        counted = [*self._counted, *((of, len(of)) for of in attributes)]
        self._objects = ObjectWatch(self._modules, [*self._entries, *settings, *forwards], counted)
        return True


def _parts_of(module: nn.Module) -> tuple[dict[str, Any], dict[str, Any]]:
    return module._parameters, module._modules


def _is_equal(name: str, value: object, before: object) -> bool:
    if name in ("impl", "_impl"):
        return value in KERNELS
    return type(value) is type(before) and value == before


def replaces_methods(module: nn.Module) -> bool:
    """Whether an object has a function of its own where its class has one."""
    replaced = (name for name in vars(module) if callable(getattr(type(module), name, None)))
    return any(name != "forward" or not has_own_forward(module) for name in replaced)


def passes_all(drop: nn.Module) -> bool:
    """Whether dropout or a drop path drops nothing, as in evaluation mode."""
    return type(drop) is nn.Identity or (type(drop) in (DropPath, nn.Dropout) and not drop.training)
