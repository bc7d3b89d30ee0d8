"""What goes into the part of a block that mixes tokens, and what comes out of it, as samples.

The paper measures "the mutual information between inputs X and outputs Y of the Attention Block and SSM" (Fig. 2 iii)
and does not say what one sample is. Taken literally, for whole sequences, the quantity does not exist: Y is a function
of X, and a function of a continuous signal has infinite information about it. Two readings are well posed, because the
other tokens act as noise that X does not know:

* ``tokens``: a sample is one patch's token: X its row before the mixer, Y the row of the same token behind it.
* ``mean``: a sample is one image: the mean of its patches' rows before the mixer, and the mean behind it.

X is what the mixer gets, normalised. Class token, registers and empty slots are left out. After a reduction a merged
token is one sample, whatever its size. Samples of one image are not independent, so each carries its image's number,
and as many tokens are drawn from every image before a reduction as after it: the number of samples biases estimators.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from rmeeto.analysis.estimators.samples import Samples, plain
from rmeeto.checks import whole_number
from rmeeto.errors import ConfigError, UnknownName, UnsupportedInput
from rmeeto.models.reducible import ReducibleModel
from rmeeto.models.vit import ReducibleTransformer
from rmeeto.reduction import Tokens
from rmeeto.runtime.randomness import seed_of

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int64

Reading = Literal["tokens", "mean"]
BATCH = 64  # images that pass at once


def middle_block(model: ReducibleModel) -> int:
    """The block that Fig. 2 looks at, counted from 0: the 7th of 12 in DeiT-S, the 14th of 24 in Vim-S."""
    depth = len(model.schedule.counts)
    return max(0, round(depth * 7 / 12) - 1)


@torch.no_grad()
def block_signals(
    model: ReducibleModel,
    images: Tensor,
    block: int,
    *,
    reading: Reading = "tokens",
    tokens_per_image: int = 4,
    seed: int = 0,
) -> Samples:
    """Inputs and outputs of the mixer (Vim, VideoMamba) or the attention (ViT, DeiT) of a block, as samples.

    The model runs under its present reduction, so two calls with ``model.reduction`` set and not set give the signals
    after and before it. The layers are watched by forward hooks while it runs; a faster way that skips them is off
    until the hooks are gone, even in a frozen model.

    Args:
        model: in eval mode.
        images: ``(n, c, h, w)``, or clips ``(n, c, t, h, w)``.
        block: counted from 0; :func:`middle_block` gives the paper's.
        reading: what one sample is, ``tokens`` or ``mean``; see the module's text.
        tokens_per_image: patches drawn from each image, without replacement, for ``tokens``. Few from many images are
            better than many from few: tokens of one image resemble each other.
        seed: of the draw. An image's draw depends on its place among the images and on nothing else.

    Returns:
        x, y in float32 at least, ``(n, d)`` or ``(n * tokens_per_image, d)``, on the processor; image: places of the
        images, from 0.

    Raises:
        UnknownName: there is no such reading.
        ConfigError: no such block, a model in training mode or of another kind, or more tokens than an image has.
    """
    check(model, images, block, reading)
    whole_number("take signals from a block", "tokens_per_image", tokens_per_image)
    parts = []
    for numbers in torch.arange(len(images)).split(BATCH):  # type: ignore[no-untyped-call]
        seen = _passing(model, images[numbers], block, numbers)
        parts.append(READINGS[reading](seen, tokens_per_image, seed))
    x, y, image = (torch.cat([getattr(part, name) for part in parts]) for name in ("x", "y", "image"))
    return Samples(x, y, image)


def check(model: nn.Module, images: Tensor, block: int, reading: str) -> None:
    """Raise unless signals can be taken: see :func:`block_signals`."""
    asked = f"take signals from block {block}"
    if not isinstance(model, ReducibleModel):
        raise ConfigError(
            asked,
            given=f"a {type(model).__name__}",
            why="it is no model of rmeeto",
            fix="build it with rmeeto.create_model, or call rmeeto.reduce(model, None) on a VisionTransformer of timm",
        )
    if reading not in READINGS:
        raise UnknownName("reading", reading, READINGS)
    whole_number(asked, "block", block, least=0, most=len(model.schedule.counts) - 1)
    if model.training:
        why = "dropped values are noise that the model does not have when it is used"
        raise ConfigError(asked, given="a model in training mode", why=why, fix="call model.eval()")
    if not isinstance(images, Tensor) or images.ndim not in (4, 5) or len(images) == 0:
        given = f"a tensor of shape {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
        raise UnsupportedInput(asked, given=given, why="images are (n, c, h, w), clips (n, c, t, h, w), at least one")


class Seen(NamedTuple):
    """What passes through a block.

    x, y: ``(b, l, d)``, of all tokens. patches: ``(b, l)`` bool, which of them are patches. image: ``(b,)`` int64.
    """

    x: Float[Tensor, "b l d"]
    y: Float[Tensor, "b l d"]
    patches: Bool[Tensor, "b l"]
    image: Int64[Tensor, " b"]


def _passing(model: ReducibleModel, images: Tensor, block: int, numbers: Tensor) -> Seen:
    """Run the model up to a block, on images of these numbers."""
    before: Tokens | None = None
    with watched(model, block) as seen:
        for number, after in enumerate(model.iter_blocks(images)):
            if number == block:
                break
            before = after
    if isinstance(model, ReducibleTransformer):  # it reduces behind its attention, a Mamba before its mixer
        after = model.embed(images) if before is None else before
    x, y = (plain(seen[name]).cpu() for name in ("x", "y"))
    return Seen(x, y, _patches(after).cpu(), numbers)


def _patches(tokens: Tokens) -> Tensor:
    mask = tokens.token_mask
    if mask is None:
        mask = torch.ones(tokens.x.shape[:2], dtype=torch.bool, device=tokens.x.device)
    return mask.scatter(1, tokens.protected, False)


def _means(seen: Seen, tokens_per_image: int, seed: int) -> Samples:
    """A sample is the mean of an image's patches."""
    share = seen.patches.to(seen.x.dtype) / seen.patches.sum(1, keepdim=True)
    x, y = (torch.einsum("bl,bld->bd", share, signal) for signal in (seen.x, seen.y))
    return Samples(x, y, seen.image)


def _tokens(seen: Seen, tokens_per_image: int, seed: int) -> Samples:
    """A sample is one of an image's patches, drawn at random."""
    places = _drawn(seen, tokens_per_image, seed)
    x, y = (signal[torch.arange(len(places))[:, None], places].flatten(0, 1) for signal in (seen.x, seen.y))
    return Samples(x, y, seen.image.repeat_interleave(tokens_per_image))


READINGS: Mapping[str, Callable[[Seen, int, int], Samples]] = {"tokens": _tokens, "mean": _means}


def _drawn(seen: Seen, count: int, seed: int) -> Tensor:
    """The places ``(b, count)`` of patches drawn at random."""
    fewest = int(seen.patches.sum(1).min())
    if fewest < count:
        raise ConfigError(
            f"draw {count} tokens from each image",
            given=f"an image with {fewest} patches left at this block",
            why="a token is drawn once at most",
            fix=f"tokens_per_image={fewest}, or a smaller reduction",
        )
    draws = torch.stack(
        [
            torch.rand(seen.patches.shape[1], generator=torch.Generator().manual_seed(seed_of(seed, "tokens", image)))
            for image in seen.image.tolist()
        ]
    )
    return draws.masked_fill(~seen.patches, -1.0).topk(count, dim=1).indices


@contextmanager
def watched(model: ReducibleModel, block: int) -> Iterator[dict[str, Tensor]]:
    """While it is open, a pass of the model leaves the block's X and Y in the dictionary, as ``x`` and ``y``.

    Raises:
        ConfigError: blocks with neither a mixer nor an attention of the usual names.
    """
    seen: dict[str, Tensor] = {}
    handles = []
    for name, layer, of_input in _ends(model, block):
        handles.append(layer.register_forward_hook(_keeper(seen, name, of_input=of_input)))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _ends(model: ReducibleModel, block: int) -> tuple[tuple[str, nn.Module, bool], tuple[str, nn.Module, bool]]:
    """Of X and of Y: the name, the layer to watch, and whether what goes into it is meant."""
    modules = dict(model.named_modules())
    if (mixer := modules.get(f"layers.{block}.mixer")) is not None:
        return ("x", mixer, True), ("y", mixer, False)
    norm, out = modules.get(f"blocks.{block}.norm1"), modules.get(f"blocks.{block}.attn.proj_drop")
    if norm is not None and out is not None:
        return ("x", norm, False), ("y", out, False)
    raise ConfigError(
        f"take signals from block {block}",
        given=f"a {type(model).__name__}",
        why=f"it has neither layers.{block}.mixer nor blocks.{block}.norm1 and blocks.{block}.attn.proj_drop",
        fix="use a Vim, a VideoMamba or a VisionTransformer of timm's default blocks",
    )


def _keeper(seen: dict[str, Tensor], name: str, *, of_input: bool) -> Any:
    def keep(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        value = inputs[0] if of_input else output
        seen[name] = value[0] if isinstance(value, tuple) else value

    return keep
