"""ReleasedMerge, ReleasedTransformerMerge: what the authors' released program computes, quirks and all.

For published checkpoints and for comparing with published numbers. All deviations of that program from the method in
the paper are in this file and nowhere else:

* the class token is put back at a floored proportional place, one for the whole batch, and drifts;
* the last reduction may be overridden so that a fixed number of tokens is left (``final``);
* features B, C and delta add the backward direction with its channels reversed and its time not;
* metric vectors are scaled to unit length for every distance, with no epsilon;
* sizes add up for ``sum`` only; for ``mean``, ``amax`` and ``amin`` the sizes go through the same reduction;
* "unordered" sorts the remaining candidates by similarity and pulls the class token forward;
* shuffling draws one permutation for the batch from torch's global CPU generator;
* the visualising forward protects place 0 instead of the class token, and reads the logits there;
* in a DeiT the class token is one of the candidates, without a chance to be chosen, and "unordered" keeps the
  remaining candidates in order (without a class token it sorts them by similarity here too).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from rmeeto.errors import ConfigError
from rmeeto.ops import lay_out
from rmeeto.ops.nearest import Distance
from rmeeto.reduction.choices import check_choices, check_count, check_features, check_types
from rmeeto.reduction.match import matching_operations
from rmeeto.reduction.methods.moves import merged, pruned
from rmeeto.reduction.methods.partners import ComparesFeatures
from rmeeto.reduction.plan import Plan, flat_index, interleave, take
from rmeeto.reduction.protocol import Schedule, Stack, Step, Widths
from rmeeto.reduction.schedule import block_numbers
from rmeeto.reduction.spec import OneLine
from rmeeto.reduction.tokens import AttentionFeatures, Features, Tokens


class _Released(OneLine, ComparesFeatures):
    """What both have in common: checks of their options, and what a step costs."""

    r: int
    varies: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_types(self)
        check_count("r", self.r)
        check_choices(self)

    def operations(self, widths: Widths, patches: int, step: Step) -> float:
        """Exact operations of one step."""
        return matching_operations(widths, self.features, patches, step.r)

    def timing_operations(self, widths: Widths, tokens: int) -> float:
        """0: step sizes do not change, and attention has none."""
        return 0.0


@dataclass(frozen=True, kw_only=True, repr=False)
class ReleasedMerge(_Released):
    """The authors' reduction, for released Vim and VideoMamba models.

    r: tokens to remove per reducing block, cut to half of what is there.
    final: tokens that the last reducing block leaves, or None for no such rule. The program's option ``compare`` is
        ``final = 197 - 11·compare``: 142 as the paper means Vim-Ti, 76 (compare = 11) as its scripts run.
    every: reduce at every n-th block; odd: one block earlier than the multiples.
    features, distance, nth, op, ordered, pruned: the program's metric, distance, choose, merge_mode, if_order
        and if_prune.
    shuffle: share of the patches permuted before each reduction, or None.
    visualisation: reproduce the visualising forward, which protects place 0.
    """

    r: int
    final: int | None = None
    features: Literal["X", "B", "C", "delta"] = "X"
    distance: Distance = "cosine"
    nth: int = 1
    op: Literal["sum", "mean", "amax", "amin"] = "sum"
    ordered: bool = True
    pruned: bool = False
    every: int = 2
    odd: bool = False
    shuffle: float | None = None
    visualisation: bool = False

    name: ClassVar[str] = "released"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.every < 1 or self.nth < 1:
            raise ConfigError(f"every={self.every}, nth={self.nth}", why="both count from 1")
        if self.shuffle is not None and not 0 <= self.shuffle <= 1:
            raise ConfigError(f"shuffle={self.shuffle:g} of the tokens", why="a share lies between 0 and 1")

    def schedule(self, stack: Stack) -> Schedule:
        """The program's counts: r where it fits, and ``final`` imposed on the last reducing block.

        Raises:
            ConfigError: a network that the program cannot take: a Transformer, or several protected tokens.
        """
        check_features(self.name, self.needs, stack)
        if stack.first == 0 or stack.protected != 1:
            raise ConfigError(
                f"reduce a network by {self.name!r}",
                given=f"{stack.protected} protected tokens, reducing from block {stack.first} on",
                why="the released program merges Mambas with one class token this way, between two blocks",
                fix=f"for a DeiT use {ReleasedTransformerMerge.name}, for other networks merge",
            )
        first = self.every - 1 if self.odd else self.every
        left, counts = stack.tokens, [0] * stack.depth
        for block in block_numbers(f"{max(first, 1)}::{self.every}", stack):
            wanted = left - self.final if self.final is not None and stack.depth - block <= self.every else self.r
            counts[block] = max(0, min(wanted, stack.capacity(left)))
            left -= counts[block]
        return Schedule(tuple(counts), stack.tokens)

    def step(self, tokens: Tokens, features: Features | None, step: Step) -> Tokens:
        """Reduce as the program does; the class token's place is the same for every image."""
        if self.visualisation:
            tokens = tokens.replace(protected=torch.zeros_like(tokens.protected))
        if self.shuffle is not None:
            tokens = self._shuffled(tokens)
        plan, cls_index = self.plan(self._metric(tokens, features), tokens.cls_index, step.r)
        return Tokens(
            x=self.combine(plan, tokens.x, tokens.size),
            residual=None if tokens.residual is None else self.combine(plan, tokens.residual, tokens.size),
            protected=cls_index[:, None],
            size=None if tokens.size is None and self.pruned else self.combine_sizes(plan, tokens.sizes()),
            plans=(*tokens.plans, plan),
        )

    def plan(self, metric: Tensor, cls_index: Tensor, r: int) -> tuple[Plan, Tensor]:
        """The decision for ``(b, l, f)`` metric vectors, and the class token's reported place ``(b,)``.

        The reported place is read later as the class token's, even where the token itself stands elsewhere.
        """
        length = metric.shape[1]
        patches, _ = lay_out(cls_index[:, None], None, length)
        candidates, targets = patches[:, 0::2], patches[:, 1::2]
        score, partner = best_partners(take(metric, candidates), take(metric, targets), self.distance, self.nth)
        order = score.argsort(dim=1, descending=True)
        source = candidates.gather(1, order[:, :r])
        target = targets.gather(1, partner.gather(1, order[:, :r]))
        if self.ordered:
            remaining, _ = lay_out(torch.cat([source, cls_index[:, None]], dim=1), None, length)
            place = cls_index * (length - r) // length
        else:
            remaining = torch.cat([candidates.gather(1, order[:, r:]), targets], dim=1)
            place = cls_index * (candidates.shape[1] - r) // candidates.shape[1]
        stands = place if self.ordered else place.clamp(max=candidates.shape[1] - r)
        plan = Plan(interleave(remaining, cls_index[:, None], stands[:, None]), source, None)
        return (plan if self.pruned else Plan(plan.kept, source, plan.follow(target))), place

    def combine(self, plan: Plan, values: Tensor, size: Tensor | None) -> Tensor:
        """reduce(value · size) / reduce(size) over each target and its sources; ``(b, l, d)`` to ``(b, m, d)``."""
        if plan.target is None:
            return plan.take(values)
        size = torch.ones(values.shape[:2], device=values.device) if size is None else size
        weight = size.to(values.dtype)[..., None]
        return self._reduce(plan, values * weight) / self._reduce(plan, weight)

    def combine_sizes(self, plan: Plan, size: Tensor) -> Tensor:
        """Sizes go through the same reduction as the values, so only ``sum`` adds them up."""
        return plan.take(size) if plan.target is None else self._reduce(plan, size[..., None])[..., 0]

    def _reduce(self, plan: Plan, values: Tensor) -> Tensor:
        assert plan.target is not None
        kept, sources = plan.take(values), take(values, plan.source).flatten(0, 1)
        rows = flat_index(plan.target, kept.shape[1])[:, None].expand_as(sources)
        flat = kept.flatten(0, 1).scatter_reduce(0, rows, sources, self.op, include_self=True)
        return flat.reshape(*kept.shape)

    def _metric(self, tokens: Tokens, features: Features | None) -> Tensor:
        if self.features == "X":
            return tokens.x
        assert features is not None
        forward, backward = features.pair(self.features)
        # In scan order the backward features run from the last token; flipping their channels leaves time reversed.
        return (forward + backward.flip(1).flip(-1)) / 2

    def _shuffled(self, tokens: Tokens) -> Tokens:
        """Permute the program's share of patches: two draws from torch's global CPU generator, one for the batch."""
        assert self.shuffle is not None
        length = tokens.length - 1
        count = int(length * self.shuffle)
        chosen = torch.randperm(length)[:count]
        moved = chosen[torch.randperm(count)]
        permuted = torch.arange(length)
        permuted[chosen] = moved
        patches, _ = lay_out(tokens.cls_index[:, None], None, tokens.length)
        kept = interleave(patches[:, permuted.to(patches.device)], tokens.protected, tokens.protected)
        return pruned(tokens, Plan(kept, kept[:, :0], None))


@dataclass(frozen=True, kw_only=True, repr=False)
class ReleasedTransformerMerge(_Released):
    """The authors' reduction of DeiT: in every block, between attention and MLP.

    r: tokens to remove per block, cut to half of what is there.
    features, distance, ordered, pruned: the program's metric, distance, if_order and if_prune.
    """

    r: int
    features: Literal["X", "Q", "K", "V"] = "X"
    distance: Distance = "cosine"
    ordered: bool = True
    pruned: bool = False

    name: ClassVar[str] = "released-vit"

    def schedule(self, stack: Stack) -> Schedule:
        """r in every block, where it fits.

        Raises:
            ConfigError: a network that the program cannot take: a Mamba, or several protected tokens.
        """
        check_features(self.name, frozenset({"X", "Q", "K", "V"}), stack)
        if stack.protected > 1:
            raise ConfigError(
                f"reduce a network by {self.name!r}",
                given=f"{stack.protected} protected tokens",
                why="the released program knows a class token and nothing else before the patches",
                fix='use TokenMerge(..., blocks="all")',
            )
        left, counts = stack.tokens, []
        for _block in range(stack.depth):
            counts.append(min(self.r, stack.capacity(left)))
            left -= counts[-1]
        return Schedule(tuple(counts), stack.tokens)

    def step(self, tokens: Tokens, features: AttentionFeatures, step: Step) -> Tokens:
        """Merge values weighted by size, and add the sizes up."""
        metric = tokens.x if self.features == "X" else features.mean(self.features)
        return merged(tokens, self.plan(metric, tokens.protected, step.r), tokens.sizes())

    def plan(self, metric: Tensor, protected: Tensor, r: int) -> Plan:
        """The decision for ``(b, l, f)`` metric vectors and the class token's place ``(b, 1)``, or none, ``(b, 0)``."""
        batch, length, _ = metric.shape
        places = torch.arange(length, device=metric.device).expand(batch, -1)
        candidates, targets = places[:, 0::2], places[:, 1::2]
        score, partner = best_partners(metric[:, 0::2], metric[:, 1::2], self.distance)
        score = score.masked_fill((candidates[..., None] == protected[:, None]).any(-1), -torch.inf)
        order = score.argsort(dim=1, descending=True)
        ranked = candidates.gather(1, order)
        source, target = ranked[:, :r], targets.gather(1, partner.gather(1, order[:, :r]))
        kept, _ = lay_out(source, None, length)
        if not self.ordered:
            remaining = ranked[:, r:]
            if protected.shape[1]:  # only for the sake of the class token does the program sort here
                remaining = remaining.sort(dim=1).values
            kept = torch.cat([remaining, targets], dim=1)
        plan = Plan(kept, source, None)
        return plan if self.pruned else Plan(kept, source, plan.follow(target))


@torch.no_grad()
def best_partners(a: Tensor, b: Tensor, distance: Distance, nth: int = 1) -> tuple[Tensor, Tensor]:
    """Each candidate's similarity to its nth closest target ``(b, n)``, and which that is; vectors to unit length."""
    a, b = a / a.norm(dim=-1, keepdim=True), b / b.norm(dim=-1, keepdim=True)
    score = a @ b.transpose(1, 2) if distance == "cosine" else -torch.cdist(a, b, p=1.0 if distance == "l1" else 2.0)
    closest = score.sort(dim=-1, descending=True, stable=True)
    column = min(nth, score.shape[-1]) - 1
    return closest.values[..., column], closest.indices[..., column]
