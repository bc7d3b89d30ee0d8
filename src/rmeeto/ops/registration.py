"""How an operation of this package takes part in what PyTorch does with functions.

An operation is opaque: PyTorch sees its name, not its arithmetic, so each way to transform it must be told.

* Reverse mode: a second operation computes the gradients. Gradients of those are taken of the plain PyTorch operations
  that the reference implementation consists of, whatever ``impl`` says.
* `torch.func.vmap`: one call for each slice.
* Forward mode (`torch.func.jvp`, `torch.autograd.forward_ad`): the plain PyTorch operations run instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rmeeto.errors import UnsupportedInput
from rmeeto.ops.select import is_differentiated_forward, is_transformed

Operands = Sequence[Any]
Save = Callable[[Any, tuple[Any, ...], Any], None]
Differentiate = Callable[..., tuple[Tensor | None, ...]]


class _Registered(NamedTuple):
    plain: Callable[..., Any]
    function: type[torch.autograd.Function]


_registered: dict[str, _Registered] = {}


def run(name: str, *args: Any) -> Any:
    """Run operation ``name``, whose last argument is ``impl``, in the way that the present transforms need.

    Raises:
        UnsupportedInput: kernels were asked for by name where there is forward-mode differentiation.
    """
    if is_differentiated_forward():
        return _run_plain(name, *args)
    if is_transformed():
        return _registered[name].function.apply(*args)
    return getattr(torch.ops.rmeeto, name)(*args)


def _run_plain(name: str, *args: Any) -> Any:
    *operands, impl = args
    if impl not in ("auto", "reference"):
        raise UnsupportedInput(
            f"{name} with impl={impl!r}",
            given="forward-mode differentiation (torch.func.jvp or torch.autograd.forward_ad)",
            why="the kernels have no forward-mode derivatives",
            fix='impl="auto" runs plain PyTorch operations there',
        )
    return _registered[name].plain(*operands)


def register_gradient(
    name: str,
    *,
    plain: Callable[..., Any],
    plain_backward: Callable[..., Any],
    save: Save,
    differentiate: Differentiate,
) -> None:
    """Give operation ``name`` its gradients, and those of ``{name}_backward``; both have been defined and implemented.

    Args:
        name: without namespace.
        plain: the operation without its last argument, ``impl``, in PyTorch operations that can be differentiated.
        plain_backward: the same of ``{name}_backward``.
        save: ``(ctx, inputs, output)``, keeps what the gradients need.
        differentiate: ``(ctx, *grads)``, the gradients of all arguments, by `run` of ``{name}_backward``.
    """
    _register(name, plain, save, differentiate)
    _register(f"{name}_backward", plain_backward, _save_all, _differentiate_plain(plain_backward))


def register_decision(name: str) -> None:
    """Let operation ``name`` take part in transforms; nothing that it gives has a derivative."""
    torch.library.register_vmap(f"rmeeto::{name}", _each_slice(name))


def _register(name: str, plain: Callable[..., Any], save: Save, differentiate: Differentiate) -> None:
    torch.library.register_autograd(f"rmeeto::{name}", differentiate, setup_context=save)
    torch.library.register_vmap(f"rmeeto::{name}", _each_slice(name))
    _registered[name] = _Registered(plain, _function(name, save, differentiate))


def _function(name: str, save: Save, differentiate: Differentiate) -> type[torch.autograd.Function]:
    """The operation as `torch.func` wants it; `torch.library.register_autograd` makes one that it refuses."""

    def forward(*args: Any) -> Any:
        return getattr(torch.ops.rmeeto, name)(*args)

    members = {
        "generate_vmap_rule": True,  # from those of the operations
        "forward": staticmethod(forward),
        "setup_context": staticmethod(save),
        "backward": staticmethod(differentiate),
    }
    return type(name, (torch.autograd.Function,), members)


def _each_slice(name: str) -> Callable[..., tuple[Any, Any]]:
    """The rule of `torch.func.vmap`."""

    def rule(info: Any, in_dims: Operands, *args: Any) -> tuple[Any, Any]:
        op, found = getattr(torch.ops.rmeeto, name), []
        for i in range(info.batch_size):
            found.append(op(*(x if dim is None else x.select(dim, i) for x, dim in zip(args, in_dims, strict=True))))
        if isinstance(found[0], Tensor):
            return torch.stack(found), 0
        outputs = tuple(torch.stack(slices) for slices in zip(*found, strict=True))
        return outputs, (0,) * len(outputs)

    return rule


def _save_all(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*(x if isinstance(x, Tensor) else None for x in inputs))
    ctx.others = tuple(None if isinstance(x, Tensor) else x for x in inputs)


def _differentiate_plain(plain: Callable[..., Any]) -> Differentiate:
    """Gradients by those of plain PyTorch operations."""

    def differentiate(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        saved, (*others, _) = ctx.saved_tensors, ctx.others
        places = [i for i, x in enumerate(saved) if x is not None and x.is_floating_point() and ctx.needs_input_grad[i]]

        def of_those(*wanted: Tensor) -> tuple[Tensor, ...]:
            given = [other if x is None else x for x, other in zip(saved[:-1], others, strict=True)]
            for place, x in zip(places, wanted, strict=True):
                given[place] = x
            found = plain(*given)
            return found if isinstance(found, tuple) else (found,)

        pull_back = torch.func.vjp(of_those, *(saved[i] for i in places))[1]
        gradients: list[Tensor | None] = [None] * len(saved)
        for place, gradient in zip(places, pull_back(grads), strict=True):
            gradients[place] = gradient
        return tuple(gradients)

    return differentiate
