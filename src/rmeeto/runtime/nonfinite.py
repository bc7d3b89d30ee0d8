"""Where NaN and infinity come from: the first module whose values are not finite."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def first_nonfinite(model: nn.Module, replay: Callable[[], object]) -> str | None:
    """The place where non-finite values first appear while ``replay`` runs the model; None if they do not.

    ``input of M`` says that they come from what M's parent computes between its modules (a scan, a merge).
    """
    places: list[str] = []

    def watch(name: str) -> tuple[Callable[..., None], Callable[..., None]]:
        def before(module: nn.Module, inputs: tuple[object, ...]) -> None:
            if not places and not _finite(inputs):
                places.append(f"input of {name}")

        def after(module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
            if not places and not _finite(output):
                places.append(f"output of {name}")

        return before, after

    handles = []
    for name, module in model.named_modules():
        before, after = watch(name or "the model")
        handles += [module.register_forward_pre_hook(before), module.register_forward_hook(after)]
    try:
        with torch.no_grad():
            replay()
    finally:
        for handle in handles:
            handle.remove()
    return places[0] if places else None


def first_nonfinite_gradient(model: nn.Module) -> str | None:
    """The first parameter in the order of the backward pass, which takes NaN along, whose gradient is not finite."""
    for name, parameter in reversed(list(model.named_parameters())):
        if parameter.grad is not None and not parameter.grad.isfinite().all():
            return f"gradient of {name}"
    return None


def _finite(value: object) -> bool:
    if isinstance(value, Tensor):
        return not value.is_floating_point() or bool(value.isfinite().all())
    if isinstance(value, tuple | list):
        return all(map(_finite, value))
    return True
