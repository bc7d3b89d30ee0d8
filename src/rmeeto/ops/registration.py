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


def register(
    name: str,
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    fake: Callable[..., Any],
    fake_backward: Callable[..., Any],
    save: Save,
    differentiate: Differentiate,
    plain_backward: Callable[..., Any] | None = None,
) -> None:
    """Implement operation ``name`` and its gradients, ``{name}_backward``; both schemas have been defined.

    Args:
        name: without namespace.
        forward: the operation. With ``impl="reference"``, its last argument, it consists of PyTorch operations that
            can be differentiated.
        backward: the same of ``{name}_backward``.
        fake: the operation's results without their values.
        fake_backward: the same of ``{name}_backward``.
        save: ``(ctx, inputs, output)``, keeps what the gradients need.
        differentiate: ``(ctx, *grads)``, the gradients of all arguments, by `run` of ``{name}_backward``.
        plain_backward: ``backward`` without its last argument, to be differentiated in its place.
    """
    plain_backward = plain_backward or _plain(backward)
    _implement(name, forward, fake)
    _implement(f"{name}_backward", backward, fake_backward)
    _register(name, _plain(forward), save, differentiate)
    _register(f"{name}_backward", plain_backward, _save_all, _differentiate_plain(plain_backward))


def register_with_gradients(
    name: str, forward: Callable[..., Tensor], backward: Callable[..., tuple[Tensor, ...]], *, tensors: int
) -> None:
    """:func:`register` an operation that gives a tensor like its first one, and a gradient of each of its tensors.

    Its arguments begin with ``tensors`` tensors, from which the gradients are computed. That of an absent one has no
    elements.
    """

    def fake(lead: Tensor, *rest: Any) -> Tensor:
        return lead.new_empty(lead.shape)

    def fake_backward(grad: Tensor, *args: Any) -> tuple[Tensor, ...]:
        return tuple(grad.new_empty(0) if x is None else x.new_empty(x.shape) for x in args[:tensors])

    def save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:tensors])
        ctx.choices = inputs[tensors:]

    def differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return needed(ctx, run(f"{name}_backward", grad, *ctx.saved_tensors, *ctx.choices))

    register(name, forward, backward, fake, fake_backward, save, differentiate)


def register_decision(name: str, forward: Callable[..., Any], fake: Callable[..., Any]) -> None:
    """Implement operation ``name``, whose schema has been defined; nothing that it gives has a derivative."""
    _implement(name, forward, fake)
    torch.library.register_vmap(f"rmeeto::{name}", _each_slice(name))


def needed(ctx: Any, gradients: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
    """The gradients of the first arguments as autograd wants those of all: None for each that is not needed."""
    absent = len(ctx.needs_input_grad) - len(gradients)
    wanted = zip(gradients, ctx.needs_input_grad, strict=False)
    return (*(gradient if is_needed else None for gradient, is_needed in wanted), *[None] * absent)


def _implement(name: str, function: Callable[..., Any], fake: Callable[..., Any]) -> None:
    torch.library.impl(f"rmeeto::{name}", "default", function)
    torch.library.register_fake(f"rmeeto::{name}", fake)


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *operands: function(*operands, "reference")


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
