"""Whether modules are as they were when something was made from them, and what about them is not.

What is seen: other parameters, parts or settings; changed values of parameters; hooks, on these modules or on all;
replaced methods, in an object or in its class. Not seen: a change of a few values that goes around PyTorch's counting
of changes, as ``parameter.data[0] = 1`` does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from timm.layers.drop import DropPath
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from rmeeto.models.layers import RMSNorm
from rmeeto.models.layers.linear import FORWARD_HOOKS
from rmeeto.models.vim.as_written import METHODS, Method, replaces_methods
from rmeeto.models.vim.mixers import BidirectionalMixer
from rmeeto.ops.watch import Entry, ObjectWatch, TensorWatch, compare

SETTINGS: dict[type, tuple[str, ...]] = {
    RMSNorm: ("eps", "impl"),
    BidirectionalMixer: ("scale", "impl"),
    DropPath: ("training",),
    nn.Dropout: ("training",),
    nn.Conv2d: ("stride", "padding", "dilation", "groups", "padding_mode"),
    nn.Conv3d: ("stride", "padding", "dilation", "groups", "padding_mode"),
}
KERNELS = ("auto", "cpp")  # what `impl` may be where the library computes

# A module or one of its dictionaries, and what about it has changed.
Change = tuple[nn.Module | dict[Any, Any], str]


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
        self._owners, self._names = [method.owner for method in methods], [method.name for method in methods]
        self._functions = [method.function for method in methods]
        self._types = [*map(type, self._modules)]
        parts = [(of, name, of[name]) for module in self._modules for of in _parts_of(module) for name in of]
        self._entries: list[Entry] = [*parts, *entries]
        named = [(module, name) for module in self._modules for name in SETTINGS.get(type(module), ())]
        self._settings: list[Entry] = [(vars(module), name, vars(module)[name]) for module, name in [*named, *settings]]
        self._hooks: list[dict[Any, Any]] = [
            hooks for module in called for hooks in (module._forward_hooks, module._forward_pre_hooks)
        ]
        lists = [module._modules for module in self._modules if isinstance(module, nn.ModuleList)]
        self._counted: list[tuple[dict[Any, Any], int]] = [(one, len(one)) for one in lists]
        self._watched = [part for part in parts if isinstance(part[2], Tensor)]
        self._tensors = TensorWatch([part for _, _, part in self._watched])
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

    def changes(self, names: dict[nn.Module, str]) -> Iterator[str]:
        """A sentence for each thing that :meth:`holds` finds changed; names: of the modules that are in the model now.

        What is no longer in the model is not named: something stands in its place, and that is.
        """
        if any(FORWARD_HOOKS):
            yield "hooks are registered on all modules"
        for owner, name, function in zip(self._owners, self._names, self._functions, strict=True):
            if getattr(owner, name) is not function:
                yield f"{owner.__name__}.{name} has been replaced"
        owners: dict[int, nn.Module] = {}
        for module in names:
            dictionaries = (vars(module), *_parts_of(module), *_hooks_of(module))
            owners |= {id(one): module for one in (module, *dictionaries)}
        hooked: list[Change] = [(hooks, "has a forward hook") for hooks in self._hooks if hooks]
        parameters = (self._watched[number] for number in self._tensors.changed())
        values: list[Change] = [(of, f"has other values in {name}") for of, name, _ in parameters]
        for of, what in (*hooked, *self._changed_objects(), *values):
            if id(of) in owners:
                yield f"{names[owners[id(of)]]} {what}"

    def _are_hooked(self) -> bool:
        """Whether a hook waits for one of the modules to be called.

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
        if any(self._changed_objects()):
            return False
        settings = [(of, name, of[name]) for of, name, _ in self._settings]
        attributes = [*map(vars, self._modules)]  # a method that is replaced from now on adds one, or is another
        forwards = [(of, "forward", of["forward"]) for of in attributes if "forward" in of]
        counted = [*self._counted, *((of, len(of)) for of in attributes)]
        self._objects = ObjectWatch(self._modules, [*self._entries, *settings, *forwards], counted)
        return True

    def _changed_objects(self) -> Iterator[Change]:
        """Objects that do not do what those of then did."""
        for module, former in zip(self._modules, self._types, strict=True):
            if type(module) is not former:
                yield module, f"is a {type(module).__name__}, no longer a {former.__name__}"
        for counted, count in self._counted:
            if len(counted) != count:
                yield counted, f"has {len(counted)} parts, no longer {count}"
        for of, name, part in self._entries:
            if of.get(name) is not part:
                yield of, f"has another module at {name}" if name.isdigit() else f"has another {name}"
        for of, name, value in self._settings:
            if not (name in of and _is_equal(name, of[name], value)):
                yield of, f"has {name}={of.get(name)!r}" + (f", no longer {value!r}" if of.get(name) != value else "")
        for module in filter(replaces_methods, self._modules):
            yield module, "has a method that its class does not have"


def _parts_of(module: nn.Module) -> tuple[dict[str, Any], dict[str, Any]]:
    return module._parameters, module._modules


def _hooks_of(module: nn.Module) -> tuple[dict[Any, Any], dict[Any, Any]]:
    return module._forward_hooks, module._forward_pre_hooks


def _is_equal(name: str, value: object, before: object) -> bool:
    if name in ("impl", "_impl"):
        return value in KERNELS
    return type(value) is type(before) and value == before
