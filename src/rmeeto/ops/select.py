"""Which implementation takes these tensors: ``reference``, ``cpp`` (processor) or ``triton`` (CUDA).

An implementation asked for by name never falls back. ``"auto"`` takes the kernels of the tensors' device, and
the reference when there are none, which it says once per process.
"""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Mapping
from functools import cache
from typing import Literal, Protocol, cast

import torch
from torch import Tensor
from torch.autograd import forward_ad

from rmeeto.errors import UnknownName, UnsupportedInput
from rmeeto.ops.operands import BlockKept, BlockParameters, ScanOperands
from rmeeto.ops.without_kernels import SLOWDOWN

Impl = Literal["auto", "reference", "cpp", "triton"]
IMPLEMENTATIONS = ("reference", "cpp", "triton")
KERNELS = {"cpu": "cpp", "cuda": "triton"}

_warned = False


class FallbackWarning(UserWarning):
    """Kernels are missing and the slow reference runs in their place: right results, late."""


class Implementation(Protocol):
    """What a module in `rmeeto.ops.impl` provides; operands stand in the order of the public functions."""

    def unsupported_reasons(self, op_name: str, tensors: Mapping[str, Tensor]) -> list[str]:
        """Return why these tensors (by operand name, absent ones left out) cannot be taken, if so."""

    def selective_scan(self, operands: ScanOperands, delta_softplus: bool, reverse: bool) -> Tensor:
        """Return the contiguous output (b, l, e) in u's dtype."""

    def selective_scan_backward(
        self, grad: Tensor, operands: ScanOperands, delta_softplus: bool, reverse: bool
    ) -> tuple[Tensor, ...]:
        """Return eight contiguous gradients, each in its operand's dtype, of shape (0,) for absent operands."""

    def bidirectional_scan(self, forward: ScanOperands, backward: ScanOperands) -> Tensor:
        """Return both scans' sum, contiguous in the dtype of u; left out where it gains nothing.

        Both have the same gate.
        """

    def causal_conv(self, x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool, reverse: bool) -> Tensor:
        """Return the contiguous output (b, l, e) in x's dtype."""

    def causal_conv_backward(
        self, grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool, reverse: bool
    ) -> tuple[Tensor, ...]:
        """Return three contiguous gradients, of shape (0,) for an absent bias."""

    def add_norm(
        self, x: Tensor, residual: Tensor | None, weight: Tensor, eps: float, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """Return normed in the given dtype and the new stream, both contiguous."""

    def add_norm_backward(
        self, grad: Tensor, grad_stream: Tensor, stream: Tensor, weight: Tensor, eps: float
    ) -> tuple[Tensor, Tensor]:
        """Return the gradient of the stream (grad_stream in it), contiguous, and that of the weight."""

    def mamba_block(
        self, x: Tensor, residual: Tensor | None, parameters: BlockParameters, eps: float, scale: float
    ) -> tuple[Tensor, BlockKept]:
        """Return the output (b, l, d) in in_proj's dtype, and what its gradients need, all contiguous."""

    def mamba_block_backward(
        self, grad: Tensor, grad_stream: Tensor, kept: BlockKept, parameters: BlockParameters, eps: float, scale: float
    ) -> tuple[Tensor, BlockParameters]:
        """Return the gradients of the stream (grad_stream in it) and of all parameters."""

    def find_nearest(self, a: Tensor, b: Tensor, distance: str, nth: int, reach: int) -> tuple[Tensor, Tensor]:
        """Return similarity and index, both contiguous (b, n)."""

    def find_nearest_seen(
        self, a: Tensor, b: Tensor, low: Tensor, high: Tensor, distance: str, nth: int
    ) -> tuple[Tensor, Tensor]:
        """Return the same where row i sees the columns low … high-1 of its own."""

    def lay_out(self, source: Tensor, target: Tensor | None, length: int) -> tuple[Tensor, Tensor]:
        """Return kept and place, both contiguous int64."""

    def closest_pairs(
        self, features: Tensor, protected: Tensor, r: int, distance: str, nth: int, reach: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return source, target, ranked and targets, all contiguous int64."""

    def merge_rows(self, values: Tensor, kept: Tensor, source: Tensor, target: Tensor, share: Tensor) -> Tensor:
        """Return the rows that stay, contiguous (b, m, c)."""

    def merge_rows_backward(self, grad: Tensor, kept: Tensor, source: Tensor, target: Tensor, share: Tensor) -> Tensor:
        """Return the gradient of the values, contiguous (b, l, c)."""


def choose(op_name: str, impl: str, tensors: Mapping[str, Tensor]) -> Implementation:
    """Return the module that computes ``op_name`` on ``tensors`` (operands by name; the first one leads).

    Raises `UnknownName` for an ``impl`` that does not exist and `UnsupportedInput` for one that was asked for
    by name and cannot take the tensors.
    """
    if impl == "auto":
        return _choose_by_device(op_name, tensors)
    check_impl(impl)
    absence = _absence(impl)
    reasons = [absence] if absence else _reasons(impl, op_name, tensors)
    if reasons:
        raise UnsupportedInput(
            f"{op_name} with impl={impl!r}",
            given=", ".join(f"{name} {_describe(x)}" for name, x in tensors.items()),
            why="; ".join(reasons),
            fix='impl="auto" takes what fits, impl="reference" takes everything',
        )
    return _module(impl)


def check_impl(impl: object) -> None:
    """Raise :class:`UnknownName` for an implementation that does not exist."""
    if not isinstance(impl, str) or (impl != "auto" and impl not in IMPLEMENTATIONS):
        raise UnknownName("implementation", str(impl), ("auto", *IMPLEMENTATIONS))


def infers_on_processor(x: Tensor) -> bool:
    """Whether kernels may read and write memory without PyTorch: it neither differentiates, compiles nor traces."""
    return inference_obstacle(x) is None


def inference_obstacle(x: Tensor) -> str | None:
    """Why kernels may not do so in a pass without gradients that begins with x; None if they may."""
    if torch.is_grad_enabled():
        return "gradients are recorded (torch.inference_mode() stops that)"
    return _memory_obstacle(x)


def training_obstacle(x: Tensor) -> str | None:
    """Why kernels may not do so, gradients included, in a step of training that begins with x; None if they may."""
    if not torch.is_grad_enabled():
        return "no gradients are recorded"
    if torch.is_autocast_enabled("cpu") or x.dtype != torch.float32:
        return "a whole block is trained in float32 only, without autocast"
    return _memory_obstacle(x)


def why_no_kernel(op_name: str, impl: str, tensors: Mapping[str, Tensor]) -> list[str]:
    """Why ``impl`` has no kernel that takes these tensors, which are given as to :func:`choose`; empty if it has."""
    device = next(iter(tensors.values())).device.type
    name = KERNELS.get(device) if impl == "auto" else impl
    if name is None:
        return [f"there are no kernels for {device!r} devices"]
    absence = _absence(name)
    return [absence] if absence else _reasons(name, op_name, tensors)


def _memory_obstacle(x: Tensor) -> str | None:
    if is_intercepted():
        return "PyTorch compiles, traces or transforms the operations"
    if type(x) is not Tensor or x.layout is not torch.strided:
        layout = (
            f" of layout {x.layout}" if isinstance(x, Tensor) else ""
        )  # a wrong argument is refused later, by its own check
        return f"a {type(x).__name__}{layout} is not plain memory"
    return None if x.is_cpu else f"the tensors are on {x.device}, and these kernels run on processors"


def is_intercepted() -> bool:
    """Whether PyTorch must see every operation: it compiles, traces or transforms them, counts their FLOPs, fakes them.

    Nothing may then be computed, kept or read in memory where it does not look.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # type: ignore[attr-defined,no-untyped-call]
        return True
    return torch._C._len_torch_dispatch_stack() > 0 or is_transformed() or is_differentiated_forward()


def is_transformed() -> bool:
    """Whether this runs inside of a transform of `torch.func`."""
    return not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active()


def is_differentiated_forward() -> bool:
    """Whether this runs under forward-mode differentiation, that of `torch.func.jvp` or `torch.autograd.forward_ad`."""
    return forward_ad._current_level >= 0


def availability() -> dict[str, str]:
    """Return for each implementation ``"ready"`` or the reason why this machine cannot run it."""
    return {name: _absence(name) or "ready" for name in IMPLEMENTATIONS}


def _choose_by_device(op_name: str, tensors: Mapping[str, Tensor]) -> Implementation:
    lead = next(iter(tensors.values()))
    reference = _module("reference")
    if lead.dtype == torch.float64:
        return reference  # float64 is for checks, not for speed
    kernel = KERNELS.get(lead.device.type)
    absence = _absence(kernel) if kernel else f"there are no kernels for {lead.device.type!r} devices"
    if kernel and not absence and not hasattr(_module(kernel), op_name):
        return reference  # PyTorch's own operations are good enough for it
    reasons = [absence] if absence or not kernel else _reasons(kernel, op_name, tensors)
    if reasons:
        _warn_once(f"{op_name}: {'; '.join(filter(None, reasons))}")
        return reference
    return _module(cast(str, kernel))


def _reasons(name: str, op_name: str, tensors: Mapping[str, Tensor]) -> list[str]:
    """Return why an implementation that runs here cannot take this call; empty if it can."""
    module = _module(name)
    if not hasattr(module, op_name):
        return [f"{name} has no kernel for it"]
    return module.unsupported_reasons(op_name, tensors)


@cache
def _module(name: str) -> Implementation:
    return cast(Implementation, importlib.import_module(f"rmeeto.ops.impl.{name}"))


@cache
def _absence(name: str) -> str | None:
    """Return why an implementation cannot run on this machine at all, or None."""
    if name == "cpp":
        return importlib.import_module("rmeeto.ops.impl.cpp").absence()  # type: ignore[no-any-return]
    if name == "triton":
        if not torch.cuda.is_available():
            return "there is no CUDA device"
        if importlib.util.find_spec("triton") is None:
            return 'Triton is not installed (pip install "rmeeto[gpu]")'
    return None


def _warn_once(reason: str) -> None:
    global _warned
    if _warned:
        return
    _warned = True  # before warning: a filter may turn the warning into an error
    warnings.warn(
        f"{reason}. The plain PyTorch loop runs instead: the same results, a scan {SLOWDOWN}. "
        "`rmeeto doctor` shows what is missing and how to get it.",
        FallbackWarning,
        stacklevel=2,
    )


def _describe(x: Tensor) -> str:
    return f"{tuple(x.shape)} {str(x.dtype).removeprefix('torch.')} on {x.device}"
