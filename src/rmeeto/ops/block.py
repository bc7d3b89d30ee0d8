"""A whole Mamba block: join and normalise, project, convolve and scan from both ends, project (Zhu et al. 2024).

Separate operations check their operands on every call and write every intermediate result to memory, which takes more
time than the arithmetic when a block is trained on a processor. There a block is one call forward and one backward.
Inference with weights that stay has `rmeeto.ops.packed.block`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rmeeto.ops.autocast import autocast_dtype
from rmeeto.ops.bidirectional import bidirectional_scan
from rmeeto.ops.conv import causal_conv
from rmeeto.ops.impl import reference
from rmeeto.ops.memory import is_dense
from rmeeto.ops.norm import add_norm, stream_dtype
from rmeeto.ops.operands import PARAMETER_NAMES, ROOM, BlockKept, BlockParameters, ScanOperands, misfit, unfit
from rmeeto.ops.registration import needed, register
from rmeeto.ops.select import Impl, check_impl, choose, is_intercepted, training_obstacle, why_no_kernel

if TYPE_CHECKING:
    from jaxtyping import Float


def mamba_block(
    x: Float[Tensor, "b l d"],
    residual: Float[Tensor, "b l d"] | None,
    parameters: BlockParameters,
    *,
    eps: float,
    scale: float,
    impl: Impl = "auto",
) -> tuple[Float[Tensor, "b l d"], Float[Tensor, "b l d"]]:
    """Compute what a block adds to the residual stream.

    That is, with ``conv``, ``x_proj`` and ``dt_proj`` of each direction::

        normed, stream = add_norm(x, residual, norm_weight)
        u, gate = in_proj(normed)
        v = causal_conv(u, conv_weight, conv_bias, reverse)         twice: from the first token, from the last
        dt, B, C = x_proj(v)
        y = selective_scan(v, dt_proj(dt), A, B, C, skip, gate, delta_bias, reverse)
        out = scale * out_proj(y_forward + y_backward)

    Where no kernel computes all of that in one call, the other operations of this package do, under the same ``impl``:
    :func:`why_by_parts` says why. Gradients are those of x, residual and all parameters.

    Args:
        x: (b, l, d), what the block before gave.
        residual: (b, l, d) in the stream's dtype, or None before the first block.
        parameters: see `rmeeto.ops.operands.BlockParameters` for the shapes.
        eps: added to the mean square of the norm.
        scale: of what both directions give together.
        impl: ``"auto"`` or the implementation that must be used; see `rmeeto.ops.select`.

    Returns:
        ``out`` and ``stream``, both (b, l, d); the stream is float32 (float64 for float64 x).

    Raises:
        UnsupportedInput: shapes do not fit each other, or ``impl`` cannot take the tensors.
        UnknownName: there is no such ``impl``.
        MemoryError: no memory is left for the kernels' scratch space.
    """
    check_impl(impl)
    _check(x, residual, parameters)
    if is_intercepted() or (impl != "reference" and why_by_parts(x, impl, parameters)):
        return _by_parts(x, residual, parameters, eps, scale, impl)
    out, stream, *_ = _Recorded.apply(x, residual, *parameters.flat(), eps, scale, impl)
    return out, stream


def why_by_parts(x: Tensor, impl: str, parameters: BlockParameters | None = None) -> str | None:
    """Why :func:`mamba_block` calls the other operations; None if it is one kernel's call.

    Without parameters, the answer is what follows from the tokens alone.
    """
    if impl not in ("auto", "cpp"):
        return f"impl={impl!r} has no kernel of a whole block"
    if (obstacle := training_obstacle(x)) is not None:
        return obstacle
    if parameters is None:
        return None
    tensors = _named(x, parameters)
    if not all(map(is_dense, tensors.values())):
        return "a parameter is not plain memory, such as a quantised or a sharded one"
    return "; ".join(why_no_kernel("mamba_block", impl, tensors)) or None


def _by_parts(
    x: Tensor, residual: Tensor | None, parameters: BlockParameters, eps: float, scale: float, impl: Impl
) -> tuple[Tensor, Tensor]:
    p, dtype = parameters, autocast_dtype(x.device.type) or parameters.in_proj.dtype
    normed, stream = add_norm(x, residual, p.norm_weight, eps=eps, dtype=dtype, impl=impl)
    u, gate = F.linear(normed, p.in_proj).chunk(2, dim=-1)
    walks = []
    for side, reverse in ((p.forward, False), (p.backward, True)):
        v = causal_conv(u, side.conv_weight, side.conv_bias, reverse=reverse, impl=impl)
        rank, states = side.dt_proj.shape[1], side.A.shape[1]
        dt, B, C = torch.split(F.linear(v, side.x_proj), [rank, states, states], dim=-1)
        delta = F.linear(dt, side.dt_proj)
        walks.append(ScanOperands(v, delta, side.A, B, C, side.skip, delta_bias=side.delta_bias))
    return F.linear(bidirectional_scan(walks[0], walks[1], gate, impl=impl), p.out_proj) * scale, stream


def _named(x: Tensor, parameters: BlockParameters) -> Mapping[str, Tensor]:
    return {"x": x, **parameters.named()}


def _check(x: Tensor, residual: Tensor | None, parameters: BlockParameters) -> None:
    given = {"x": x, "residual": residual, **parameters.named()}
    why = unfit(given)
    if why is None and (x.ndim != 3 or parameters.out_proj.ndim != 2 or parameters.forward.A.ndim != 2):
        why = "x must be (b, l, d), out_proj (d, e) and A (e, n)"
    elif why is None and (residual is not None and residual.dtype != stream_dtype(x)):
        why = f"the residual must be in {stream_dtype(x)}"
    if why is None:
        wanted = _shapes(x, parameters)
        wrong = [name for name, t in given.items() if t is not None and t.shape != wanted.get(name, t.shape)]
        wrong += [name for name, t in given.items() if t is not None and t.device != x.device]
        why = f"{wrong[0]} must be {wanted[wrong[0]]} on {x.device}" if wrong else None
    if why is not None:
        raise misfit("mamba_block", given, why)


def _shapes(x: Tensor, parameters: BlockParameters) -> dict[str, tuple[int, ...]]:
    d, (inner, states), width = x.shape[2], parameters.forward.A.shape, parameters.forward.conv_weight.shape[-1]
    rank, e = parameters.forward.dt_proj.shape[-1], (inner,)
    side = ((inner, 1, width), e, (inner, states), e, e, (rank + 2 * states, inner), (inner, rank))
    flat = ((d,), (2 * inner, d), (d, inner), *side, *side)
    return {"residual": tuple(x.shape), **dict(zip(PARAMETER_NAMES, flat, strict=True))}


# One operation whose results beyond the first two are what its gradients need. PyTorch does not reach into it, so
# mamba_block calls it only where PyTorch neither compiles, traces nor transforms.

_PARAMETER_TYPES = f"{', '.join(f'Tensor {name}' for name in PARAMETER_NAMES)}, float eps, float scale, str impl"
_KEPT_TYPES = ", ".join(f"Tensor {name}" for name in BlockKept._fields)
torch.library.define(
    "rmeeto::mamba_block",
    f"(Tensor x, Tensor? residual, {_PARAMETER_TYPES}) -> ({', '.join(['Tensor'] * (1 + len(BlockKept._fields)))})",
)
torch.library.define(
    "rmeeto::mamba_block_backward",
    f"(Tensor grad, Tensor grad_stream, {_KEPT_TYPES}, {_PARAMETER_TYPES})"
    f" -> ({', '.join(['Tensor'] * (1 + len(PARAMETER_NAMES)))})",
)


def _forward(x: Tensor, residual: Tensor | None, *args: Any) -> tuple[Tensor, ...]:
    *flat, eps, scale, impl = args
    parameters = BlockParameters.of(flat)
    module = choose("mamba_block", impl, _named(x, parameters))
    out, kept = module.mamba_block(x, residual, parameters, eps, scale)
    return out, *kept


def _backward(grad: Tensor, grad_stream: Tensor, *args: Any) -> tuple[Tensor, ...]:
    *tensors, eps, scale, impl = args
    kept, flat = BlockKept(*tensors[: len(BlockKept._fields)]), tensors[len(BlockKept._fields) :]
    parameters = BlockParameters.of(flat)
    module = choose("mamba_block", impl, _named(kept.stream, parameters))
    dstream, gradients = module.mamba_block_backward(grad, grad_stream, kept, parameters, eps, scale)
    return dstream, *gradients.flat()


def _plain_backward(grad: Tensor, grad_stream: Tensor, stream: Tensor, *args: Any) -> tuple[Tensor, ...]:
    """From the stream and the parameters alone, on which everything else that was kept depends."""
    *flat, eps, scale = args[len(BlockKept._fields) - 1 :]
    parameters = BlockParameters.of(flat)
    _, kept = reference.mamba_block(stream, None, parameters, eps, scale)
    dstream, gradients = reference.mamba_block_backward(grad, grad_stream, kept, parameters, eps, scale)
    return dstream, *gradients.flat()


def _fake_forward(x: Tensor, residual: Tensor | None, *args: Any) -> tuple[Tensor, ...]:
    p, (batch, length, d) = BlockParameters.of(args[: len(PARAMETER_NAMES)]), x.shape
    (inner, states), rank, dtype = p.forward.A.shape, p.forward.dt_proj.shape[1], p.in_proj.dtype
    products = [(2, batch, length, rank), (batch, length, d), (batch, length, 2 * inner), (batch, length, inner)]
    return (
        x.new_empty(x.shape, dtype=dtype),
        x.new_empty(x.shape, dtype=stream_dtype(x)),
        x.new_empty((2, batch, length, 2, max(states, ROOM)), dtype=stream_dtype(p.in_proj)),
        *(x.new_empty(shape, dtype=dtype) for shape in products),
    )


def _fake_backward(grad: Tensor, grad_stream: Tensor, stream: Tensor, *args: Any) -> tuple[Tensor, ...]:
    flat = args[len(BlockKept._fields) - 1 :][: len(PARAMETER_NAMES)]
    return stream.new_empty(stream.shape), *(parameter.new_empty(parameter.shape) for parameter in flat)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, _, *flat, ctx.eps, ctx.scale, ctx.impl = inputs
    _, stream, *inside = output
    ctx.mark_non_differentiable(*inside)
    ctx.set_materialize_grads(False)  # of what is inside there are none
    ctx.save_for_backward(stream, *inside, *flat)
    ctx.x_dtype, ctx.out_dtype = x.dtype, output[0].dtype


def _differentiate(ctx: Any, grad: Tensor | None, grad_stream: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors  # read once: hooks may compute or fetch them on access
    stream = saved[0]
    grad = torch.zeros_like(stream, dtype=ctx.out_dtype) if grad is None else grad
    grad_stream = torch.zeros_like(stream) if grad_stream is None else grad_stream
    dstream, *gradients = torch.ops.rmeeto.mamba_block_backward(grad, grad_stream, *saved, ctx.eps, ctx.scale, ctx.impl)
    return needed(ctx, (dstream.to(ctx.x_dtype), dstream, *gradients))


class _Recorded(torch.autograd.Function):
    """The operation and its gradients, as `register` below connects them, without PyTorch's work around it.

    What `torch.library.register_autograd` makes looks up all arguments in the schema at each call. With so many, that
    takes longer than the whole forward pass of a small block.
    """

    @staticmethod
    def forward(ctx: Any, *args: Any) -> tuple[Tensor, ...]:
        output: tuple[Tensor, ...] = torch.ops.rmeeto.mamba_block(*args)
        _save(ctx, args, output)
        return output

    backward = staticmethod(_differentiate)


register(
    *("mamba_block", _forward, _backward, _fake_forward, _fake_backward, _save, _differentiate),
    plain_backward=_plain_backward,
)
