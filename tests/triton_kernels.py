"""The Triton kernels by name. A module of its own, because a process that is started for them imports it by name."""

import importlib

import torch

from rmeeto.ops import ScanOperands

PACKAGE = "rmeeto.ops.impl.triton"


def call_kernel(name, *args, **kwargs):
    """Import and run; in the interpreter's process the import brings the interpreted kernels."""
    return getattr(importlib.import_module(PACKAGE), name)(*args, **kwargs)


def call_on_device(name, *args, **kwargs):
    out = call_kernel(name, *map(on_device, args), **kwargs)
    return tuple(x.cpu() for x in out) if isinstance(out, tuple) else out.cpu()


def on_device(x):
    if isinstance(x, ScanOperands):
        return ScanOperands(*map(on_device, x))
    return x.cuda() if isinstance(x, torch.Tensor) else x


def are_interpreted():
    return importlib.import_module(f"{PACKAGE}.launch").interpreted()


def wide(x):
    if isinstance(x, ScanOperands):
        return ScanOperands(*map(wide, x))
    return x.double() if isinstance(x, torch.Tensor) and x.is_floating_point() else x


def assert_within_budget(got, plain, truth, what):
    """The kernel may be as wrong as plain PyTorch in the same dtype, plus a rounding or two.

    Two, because the interpreter cuts off what does not fit into bfloat16.
    """
    assert got.dtype == plain.dtype, f"{what}: {got.dtype} instead of {plain.dtype}"
    assert got.shape == plain.shape, f"{what}: {tuple(got.shape)} instead of {tuple(plain.shape)}"
    assert got.is_contiguous(), f"{what} has strides {got.stride()}, but the fake kernel promises contiguous ones"
    if not truth.numel():
        return
    unit = torch.finfo(got.dtype).eps
    slack = 2 * unit * truth.abs() + 16 * torch.finfo(torch.float32).eps * truth.abs().amax()
    excess = (got.double() - truth).abs() - (plain.double() - truth).abs() - slack
    assert excess.isfinite().all(), f"{what} is not finite"
    assert (excess <= 0).all(), f"{what} is off by {excess.amax():.1e} more than float32 arithmetic allows"
