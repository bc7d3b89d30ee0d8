"""Dynamic Vision Mamba (DyVM): a network that learns which of its tokens to keep and which of its scans to run.

A :class:`DynamicMamba` wraps a :class:`VisionMamba` (Vim, or VideoMamba) and adds two kinds of heads. *Token
predictors* before a few blocks keep the best patches, with the class token put back where the network was trained to
have it. *Direction gates* in every block read the class token and say for each image whether the forward scan, the
backward scan, both or neither is worth its time.

>>> model = DynamicMamba(rmeeto.create_model("vim_small", pretrained=True), DynamicConfig(keep=0.7, directions=0.8))

In eval mode the savings are real: a fixed number of patches is kept and the rest are removed, and a direction runs only
on the images whose gate is open. The mixer then runs on a shorter sequence; the state does not decay at removed patches
(hidden state alignment makes the opposite choice). Which images a scan runs on depends on the images, so with gates
this mode is no single graph for ``torch.compile(fullgraph=True)``; training mode is one.

In training mode decisions are drawn, hard but with a gradient. The sequence is not shortened, because every image keeps
a different number of patches. Instead the tokens are *rearranged*: the kept ones come first, in eval mode's order, and
the others after them, with their inputs to convolution and state set to zero. The forward scan reaches the others last.
The backward scan reaches them first, but their zeros leave convolution and state at zero. So the kept tokens get, in
both directions, exactly the results of eval mode.

Training is possible from Python only: ``model.train()(images)`` gives a :class:`Rehearsal`,
:mod:`rmeeto.training.dynamic` has the losses, and :class:`rmeeto.training.objective.Objective` uses both.
``rmeeto retrain`` does not train DyVM. :func:`rmeeto.save_model` saves a trained model,
:func:`rmeeto.models.dyvm.load_dynamic` loads it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rmeeto.config import DynamicConfig, ModelConfig
from rmeeto.cost import Convention, Cost, stack_of
from rmeeto.cost.dynamic import dynamic_cost
from rmeeto.errors import ConfigError
from rmeeto.models.dyvm.decisions import Draw, arrange, best, straight_through
from rmeeto.models.dyvm.heads import DirectionGates, TokenPredictor
from rmeeto.models.layers import add_residual
from rmeeto.models.vim.backbone import VisionMamba
from rmeeto.models.vim.block import Block
from rmeeto.models.vim.mixers import BidirectionalMixer
from rmeeto.reduction.plan import Plan
from rmeeto.reduction.tokens import Tokens


class Rehearsal(NamedTuple):
    """A training pass: its logits, and the drawn decisions, through which gradients flow.

    logits: ``(b, classes)``. keep: ``(b, stages)``, share of its patches that each image has left after each
    predictor; keep_aim: that share in eval mode. directions: ``(b, blocks, 2)``, 1 where a direction ran;
    directions_aim: the mean to reach. x: ``(b, l, d)``, the normalised tokens in the original order of the patches.
    token_mask: ``(b, l)`` bool, the patches that were left at the end.
    """

    logits: Tensor
    keep: Tensor
    keep_aim: tuple[float, ...]
    directions: Tensor
    directions_aim: float
    x: Tensor
    token_mask: Tensor


class DynamicTrace(NamedTuple):
    """A pass in eval mode and what its blocks saw.

    logits: ``(b, classes)``. blocks: the tokens that each block's mixer saw. directions: ``(b, blocks, 2)`` bool, which
    scans ran. final: the tokens that left the last block.
    """

    logits: Tensor
    blocks: tuple[Tokens, ...]
    directions: Tensor
    final: Tokens


class DynamicMamba(nn.Module):
    """A Vision Mamba with token predictors and direction gates around it.

    The wrapped network is ``model``, its weights as they are under the prefix ``model.``.

    Raises:
        ConfigError: the network reduces its tokens already, has registers, or lacks the blocks that predictors should
            stand before.
    """

    def __init__(self, model: VisionMamba, dynamic: DynamicConfig) -> None:
        super().__init__()
        if model.reduction is not None:
            raise ConfigError(
                "let predictors decide about tokens",
                given=f"a network that reduces them by {model.reduction}",
                why="either the predictors decide about tokens, or the reduction",
                fix="set model.reduction = None",
            )
        config = model.config
        if config.registers:
            raise ConfigError(
                "let predictors decide about tokens",
                given=f"a network with {config.registers} registers",
                why="the position of registers among the remaining patches is not defined",
                fix="use a network without registers",
            )
        if config.global_pool != "token":
            raise ConfigError(
                "let predictors decide about tokens",
                given=f"a network with global_pool={config.global_pool!r}",
                why="in training the patches that are dropped stay in the sequence, and only the class token is read",
                fix="use global_pool='token'",
            )
        self.model, self.dynamic = model, dynamic
        self.schedule = dynamic.schedule(stack_of(config))
        blocks = dynamic.stages(config.depth)
        self.predictors = nn.ModuleDict({str(block): TokenPredictor(config.dim, dynamic.keep) for block in blocks})
        gated = range(config.depth if dynamic.directions < 1 else 0)
        self.gates = nn.ModuleList(DirectionGates(config.inner, dynamic.directions) for _ in gated)
        self.predictors.to(model.pos_embed)
        self.gates.to(model.pos_embed)

    @property
    def config(self) -> ModelConfig:
        """Sizes of the wrapped network."""
        return self.model.config

    @property
    def num_classes(self) -> int:
        """Width of the logits."""
        return self.model.num_classes

    @property
    def pretrained_cfg(self) -> dict[str, Any]:
        """How images are prepared, in timm's form."""
        return self.model.pretrained_cfg

    def no_weight_decay(self) -> set[str]:
        """Parameters of the wrapped network that weight decay would harm."""
        return {f"model.{name}" for name in self.model.no_weight_decay()}

    def cost(self, convention: Convention = "exact", *, directions: float | None = None) -> Cost:
        """Expected operations per image; :func:`rmeeto.flops` gives the same.

        directions: the share of scan directions that runs, for instance as :meth:`trace` found it; None is the share
            that training aims at.
        """
        return dynamic_cost(self.config, self.dynamic, convention=convention, directions=directions)

    def forward(self, images: Tensor) -> Tensor | Rehearsal:
        """Logits ``(b, classes)`` in eval mode; in training mode, :meth:`rehearse`."""
        if self.training:
            return self.rehearse(images)
        return self.model.classify(self.encode(images))

    def encode(self, images: Tensor) -> Tokens:
        """The tokens that leave the last block, with ``x`` normalised: the best patches, in order."""
        tokens = self.model.embed(images)
        for number in range(len(self.model.layers)):
            _, _, tokens = self._perform(tokens, number)
        return self.model.final_norm(tokens)

    def trace(self, images: Tensor) -> DynamicTrace:
        """As :meth:`encode`, keeping what each block saw and ran."""
        tokens, seen, ran = self.model.embed(images), [], []
        for number in range(len(self.model.layers)):
            entering, directions, tokens = self._perform(tokens, number)
            seen.append(entering)
            ran.append(directions)
        final = self.model.final_norm(tokens)
        return DynamicTrace(self.model.classify(final), tuple(seen), torch.stack(ran, dim=1), final)

    def rehearse(self, images: Tensor, draw: Draw = straight_through) -> Rehearsal:
        """Run every token and every scan, with drawn decisions about which of them count.

        draw: from log-odds to 1 or 0; of patches ``(b, l)``, of directions ``(b, 2)``.
        """
        tokens, keep, ran = self.model.embed(images), [], []
        token_mask = torch.ones_like(tokens.sizes())
        for number in range(len(self.model.layers)):
            if str(number) in self.predictors:
                tokens, token_mask = self._rearrange(tokens, token_mask, number, draw)
                keep.append((token_mask.sum(1) - 1) / self.config.patches)
            tokens, directions = self._rehearse_block(tokens, token_mask, number, draw)
            ran.append(directions)
        tokens = self.model.final_norm(tokens)
        patches = token_mask.scatter(1, tokens.protected, 0.0)
        return Rehearsal(
            logits=self.model.classify(tokens),
            keep=torch.stack(keep, dim=1) if keep else token_mask.new_empty(len(images), 0),
            keep_aim=tuple((self.schedule.tokens[int(block)] - 1) / self.config.patches for block in self.predictors),
            directions=torch.stack(ran, dim=1),
            directions_aim=self.dynamic.directions,
            x=tokens.unmerge(tokens.x),
            token_mask=tokens.unmerge(patches) > 0,
        )

    def _perform(self, tokens: Tokens, number: int) -> tuple[Tokens, Tensor, Tokens]:
        """One block in eval mode: the tokens that enter its mixer, which directions run, the tokens that leave it."""
        if str(number) in self.predictors:
            tokens = self._drop(tokens, number)
        block: Block = self.model.layers[number]  # type: ignore[assignment]
        if not self.gates:
            left, _ = block(tokens)
            return tokens, torch.ones(len(tokens.x), 2, dtype=torch.bool, device=tokens.x.device), left
        normed, residual = block.add_residual(tokens)
        u, gate = block.mixer.project(normed)
        directions = self.gates[number](u, gate, tokens.cls_index) > 0
        return tokens, directions, tokens.replace(x=scan_open(block.mixer, u, gate, directions), residual=residual)

    def _drop(self, tokens: Tokens, number: int) -> Tokens:
        """Leave the best patches of each image, as many of each."""
        left = self.schedule.tokens[number]
        scores = self._scores(tokens, torch.ones_like(tokens.sizes()), number)
        order, cls_place = self._arrange(best(scores, left - 1), tokens)
        return moved(tokens, Plan(order[:, :left], order[:, left:], None), cls_place)

    def _rearrange(self, tokens: Tokens, token_mask: Tensor, number: int, draw: Draw) -> tuple[Tokens, Tensor]:
        """Draw what stays of the tokens in ``token_mask (b, l)``, and put the others behind it."""
        chosen = draw(self._scores(tokens, token_mask, number)).scatter(1, tokens.protected, 1.0)
        token_mask = token_mask * chosen
        order, cls_place = self._arrange(token_mask > 0, tokens)
        plan = Plan(order, order[:, :0], None)
        return moved(tokens, plan, cls_place), plan.take(token_mask)

    def _scores(self, tokens: Tokens, token_mask: Tensor, number: int) -> Tensor:
        """A predictor's log-odds ``(b, l)``; -∞ for the class token, which it is not asked about."""
        patches = token_mask.scatter(1, tokens.protected, 0.0)
        scores: Tensor = self.predictors[str(number)](add_residual(tokens, nn.Identity()), patches)
        return scores

    def _arrange(self, keep: Tensor, tokens: Tokens) -> tuple[Tensor, Tensor]:
        return arrange(keep, tokens.protected, middle=self.config.cls_place == "middle")

    def _rehearse_block(self, tokens: Tokens, token_mask: Tensor, number: int, draw: Draw) -> tuple[Tokens, Tensor]:
        """One block in training mode: its tokens, and the directions ``(b, 2)`` that count."""
        block: Block = self.model.layers[number]  # type: ignore[assignment]
        normed, residual = block.add_residual(tokens)
        u, gate = block.mixer.project(normed)
        directions = token_mask.new_ones(len(token_mask), 2)
        if self.gates:
            directions = draw(self.gates[number](u, gate, tokens.cls_index))
        forward, backward = (
            block.mixer.direction(u, gate, side, token_mask) * count.to(u.dtype)[:, None, None]
            for side, count in zip(block.mixer.directions(), directions.unbind(1), strict=True)
        )
        return tokens.replace(x=block.mixer.combine(forward + backward), residual=residual), directions


def moved(tokens: Tokens, plan: Plan, cls_place: Tensor) -> Tokens:
    """The tokens that a plan leaves, in its order."""
    return tokens.replace(
        x=plan.take(tokens.x),
        residual=None if tokens.residual is None else plan.take(tokens.residual),
        protected=cls_place,
        plans=(*tokens.plans, plan),
    )


def scan_open(mixer: BidirectionalMixer, u: Tensor, gate: Tensor, is_open: Tensor) -> Tensor:
    """Mix projected tokens ``(b, l, e)``, each direction on the images for which it ``is_open (b, 2)``."""
    y = torch.zeros_like(u)
    for side, images in zip(mixer.directions(), is_open.unbind(1), strict=True):
        rows = images.nonzero().squeeze(1)
        if len(rows):
            y = y.index_add(0, rows, mixer.direction(u[rows], gate[rows], side))
    return mixer.combine(y)
