"""Which input tokens each output token depends on: Proposition 2 and Corollary 1 of the paper as questions.

Proposition 2 says that the outputs of a scan before time t do not depend on the input at t; Corollary 1 says the
reverse of a reverse scan. As statements about functions both are exact, and true of a whole direction of a mixer
(convolution, projections, scan and gate). They are not true of a block of Vim, which adds both directions: there every
output depends on every input.

The paper goes on: "Thus, I(Y_{0:t}; X_t) = 0". That does not follow. It would hold if the tokens were independent of
each other; but those of an image are not, and by what X_t shares with earlier tokens it shares information with
earlier outputs. What follows is that the information vanishes *given* the earlier inputs:
I(Y_{0:t}; X_t | X_{0:t}) = 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from rmeeto.errors import UnknownName, UnsupportedInput
from rmeeto.runtime.randomness import seed_of

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

Function = Callable[[Tensor], Tensor]
ASKED = "find which tokens a function's outputs depend on"


@dataclass(frozen=True)
class Dependence:
    """Which outputs depend on which inputs, at one point of a function's domain.

    table: ``(l, l)`` bool, row: output token, column: input token.
    """

    table: Bool[Tensor, "l l"]

    @property
    def on_later(self) -> bool:
        """Whether any output depends on a later input; Proposition 2 says that in a scan none does."""
        return bool(self.table.triu(1).any())

    @property
    def on_earlier(self) -> bool:
        """Whether any output depends on an earlier input; Corollary 1 says that in a reverse scan none does."""
        return bool(self.table.tril(-1).any())

    def __str__(self) -> str:
        names = [name for name, found in (("earlier", self.on_earlier), ("later", self.on_later)) if found]
        return f"outputs depend on {' and on '.join(names)} inputs" if names else "outputs depend on no other token"


def depends_on(
    function: Function, x: Float[Tensor, "b l d"], *, by: Literal["perturbation", "jacobian"] = "perturbation"
) -> Dependence:
    """Which input tokens each output token of a function depends on, at x and bit for bit.

    Args:
        function: from ``(b, l, d)`` to ``(b, l, e)``, the same at each call; see :func:`directions` for a mixer's.
        x: where to look. With float64 a dependence is seen that decays over hundreds of tokens.
        by: ``perturbation`` replaces one input token after the other; ``jacobian`` differentiates.

    Raises:
        UnknownName: another way.
        UnsupportedInput: other shapes, values that are not finite, or a Jacobian of a function without a derivative.

    >>> print(depends_on(directions(model.layers[13].mixer)["forward"], torch.randn(1, 20, 384)))
    outputs depend on earlier inputs
    """
    if by not in WAYS:
        raise UnknownName("way to find dependence", by, WAYS)
    return Dependence(WAYS[by](function, x) > 0)


@torch.no_grad()
def influence(function: Function, x: Float[Tensor, "b l d"], *, seed: int = 0) -> Float[Tensor, "l l"]:
    """The largest change of each output token (row) when one input token (column) is replaced by a random one.

    Zero means that all bits of the output stayed as they were.
    """
    y = _checked(function, x)
    generator = torch.Generator().manual_seed(seed_of(seed, "perturbation"))
    columns = []
    for place in range(x.shape[1]):
        changed = x.clone()
        changed[:, place] = torch.randn(x.shape[0], x.shape[2], generator=generator, dtype=x.dtype).to(x.device)
        columns.append((function(changed) - y).abs().amax(dim=(0, 2)))
    return torch.stack(columns, dim=1)


@torch.enable_grad()
def sensitivity(function: Function, x: Float[Tensor, "b l d"], *, seed: int = 0) -> Float[Tensor, "l l"]:
    """The size of the derivative of each output token (row) by each input token (column).

    It is the norm of vᵀJ, where J is the Jacobian of the pair and v a random normal vector: its square is in the mean
    that of J's Frobenius norm, and it is zero only if J is zero, or with probability zero.
    """
    x = x.detach().clone().requires_grad_()
    y = _checked(function, x)
    generator = torch.Generator().manual_seed(seed_of(seed, "jacobian"))
    if not y.requires_grad:
        raise UnsupportedInput(
            ASKED,
            given="a function without a derivative by x",
            why="its value does not remember how it was computed",
            fix='use by="perturbation"; a model must not be frozen, nor run under torch.no_grad',
        )
    rows = []
    for place in range(y.shape[1]):
        v = torch.randn(y.shape[0], y.shape[2], generator=generator, dtype=y.dtype).to(y.device)
        (gradient,) = torch.autograd.grad(y[:, place], x, v, retain_graph=True)
        rows.append(gradient.norm(dim=(0, 2)))
    return torch.stack(rows)


WAYS: Mapping[str, Callable[[Function, Tensor], Tensor]] = {"perturbation": influence, "jacobian": sensitivity}


def directions(mixer: Any) -> dict[str, Function]:
    """The functions that a bidirectional mixer is made of, each from tokens ``(b, l, d)``.

    ``forward`` and ``backward`` are one direction each, with its convolution, projections, scan and gate, up to
    ``(b, l, e)``; ``both`` is the whole mixer, up to ``(b, l, d)``.
    """

    def along(side: Any) -> Function:
        return lambda x: mixer.direction(*mixer.project(x), side)

    forward, backward = mixer.directions()
    return {"forward": along(forward), "backward": along(backward), "both": lambda x: mixer(x)[0]}


def _checked(function: Function, x: Tensor) -> Tensor:
    """The function's value at x.

    Raises:
        UnsupportedInput: other shapes, or values that are not finite.
    """
    if x.ndim != 3 or not x.is_floating_point() or x.numel() == 0:
        raise UnsupportedInput(ASKED, given=f"{x.dtype} {tuple(x.shape)}", why="x is (b, l, d), of floating numbers")
    y = function(x)
    if not isinstance(y, Tensor) or y.ndim != 3 or y.shape[:2] != x.shape[:2]:
        found = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
        raise UnsupportedInput(ASKED, given=f"a value {found} at x {tuple(x.shape)}", why="it must be (b, l, e)")
    if not (x.isfinite().all() and y.isfinite().all()):
        raise UnsupportedInput(ASKED, why="the function's value contains NaN or infinity, or x does")
    return y
