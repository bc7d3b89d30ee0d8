"""What a step of a reduction chooses from, and by how much another choice would have been worse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rmeeto.exporting.plain_torch import similarity
from rmeeto.reduction import STM, Reduction, TokenMerge, TokenPrune, Tokens
from rmeeto.reduction.frames import patch_frames, targets_near
from rmeeto.reduction.match import Match, group, patch_positions, reach_of
from rmeeto.reduction.methods.partners import matching_features
from rmeeto.reduction.methods.stm import beside
from rmeeto.reduction.plan import Plan, take
from rmeeto.reduction.protocol import Step

NOT_A_PLAN = float("inf")


@dataclass(frozen=True)
class Choices:
    """What a step chose from, in float64.

    candidates, targets: ``(b, n)`` and ``(b, m)`` positions. similarity: ``(b, n, m)``, -∞ where a candidate does not
    see a target. allowed: ``(b, n, m)``, which target a candidate may join. value: ``(b, n)``, what candidates are
    ranked by. r: how many leave.
    """

    reduction: Reduction
    tokens: Tokens
    candidates: Tensor
    targets: Tensor
    similarity: Tensor
    allowed: Tensor
    value: Tensor
    r: int

    def margin(self, image: int, place: Tensor) -> float:
        """How much worse, of the scale of similarities, the choices behind a plan are than the best ones.

        place: ``(l,)``, the output place of every token of one image. Infinite if no choice of this method leads to
        such a plan: what differs is then not a tie.
        """
        sides = self.candidates[image], self.targets[image]
        taken, partner = chosen(place, *sides)
        if int(taken.sum()) != self.r or not torch.equal(self._laid_out(image, place, taken, partner), place):
            return NOT_A_PLAN
        value = self.value[image]
        last = value.sort(descending=True).values[self.r - 1]
        worse = torch.where(taken, last - value, value - last)
        gaps = [torch.where(value == last, 0.0, worse)]
        if isinstance(self.reduction, TokenMerge | STM):
            own, fits = (of[image].gather(1, partner[:, None])[:, 0] for of in (self.similarity, self.allowed))
            apart = torch.where(value == own, 0.0, (value - own).abs())
            gaps.append(torch.where(fits, apart, NOT_A_PLAN)[taken])
        if getattr(self.reduction, "order", "kept") == "dropped":
            ranked = value[~taken][place[sides[0][~taken]].argsort()]
            gaps.append(ranked - ranked.cummin(0).values)
        finite = self.similarity[image][self.similarity[image].isfinite()].abs()
        scale = max(float(finite.max()) if finite.numel() else 1.0, 1e-30)
        return float(torch.cat(gaps).clamp(min=0).max()) / scale

    def _laid_out(self, image: int, place: Tensor, taken: Tensor, partner: Tensor) -> Tensor:
        """The plan that the method makes of some choices: ``(l,)`` output places."""
        candidates, targets = self.candidates[image], self.targets[image]
        source, target = candidates[taken][None], targets[partner[taken]][None]
        length = len(place)
        if not isinstance(self.reduction, TokenMerge | TokenPrune):
            return Plan.joining(source, target, length).assignment()[0]
        stays = candidates[~taken]
        ranked = torch.cat([source[0], stays[place[stays].argsort()]])[None]
        one = Tokens(self.tokens.x[image : image + 1], None, self.tokens.protected[image : image + 1])
        plan = self.reduction.plan(one, Match(source, target, ranked, targets[None]))
        if isinstance(self.reduction, TokenPrune):
            plan = Plan(plan.kept, plan.source, None)
        return plan.assignment()[0]


def chosen(place: Tensor, candidates: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Which candidates left by a plan, and the number of the target that each has joined (0 where there is none)."""
    of_targets, of_candidates = place[targets], place[candidates]
    same = (of_candidates[:, None] == of_targets[None, :]) & (of_candidates[:, None] >= 0)
    taken = same.any(1) | (of_candidates < 0)
    return taken, same.int().argmax(1)


def choices(reduction: Reduction, tokens: Tokens, features: Any, step: Step) -> Choices:
    """What a step of merging, pruning or STM chooses from."""
    assert isinstance(reduction, TokenMerge | TokenPrune | STM), "`check_reduction` has refused all others"
    compared = matching_features(tokens, features, reduction.features).double()
    patches = patch_positions(tokens.protected, tokens.length)
    if isinstance(reduction, STM):
        return _between_neighbours(reduction, tokens, compared, patches, step)
    candidates, targets = group(patches, reduction.grouping)
    found = similarity(take(compared, candidates), take(compared, targets), reduction.distance)
    low, high = _seen(reduction, tokens, candidates, targets, step)
    columns = targets.shape[1]
    column = torch.arange(columns)
    inside = (column >= low[..., None]) & (column < high[..., None])
    found = found.masked_fill(~inside, -torch.inf)
    ranked = found.sort(dim=-1, descending=True, stable=True).values
    place = ((high - low).clamp(1, reduction.nth) - 1)[..., None]
    value = ranked.gather(-1, place)[..., 0]
    next_one = column == low.clamp(max=columns - 1)[..., None]  # what a candidate that sees none joins
    allowed = inside | (next_one & ~inside.any(-1, keepdim=True))
    return Choices(reduction, tokens, candidates, targets, found, allowed, value, step.r)


def _seen(
    reduction: TokenMerge | TokenPrune, tokens: Tokens, candidates: Tensor, targets: Tensor, step: Step
) -> tuple[Tensor, Tensor]:
    """The targets [low, high) that each candidate may join, ``(b, n)`` twice."""
    columns = targets.shape[1]
    if reduction.frames is not None:
        return targets_near(patch_frames(tokens, step.time), reduction.frames)
    row = torch.arange(candidates.shape[1]).expand(candidates.shape)
    reach = max(candidates.shape[1], columns) if reduction.window is None else reach_of(reduction.window)
    return (row - reach).clamp(0, columns), (row + reach).clamp(0, columns)


def _between_neighbours(reduction: STM, tokens: Tokens, compared: Tensor, patches: Tensor, step: Step) -> Choices:
    """Every second patch may join the one before it or behind it, and none near the class token."""
    unit = F.normalize(take(compared, patches), dim=-1)
    closeness = (unit[:, :-1] * unit[:, 1:]).sum(-1)
    if reduction.guard and tokens.protected.shape[1]:
        near = beside(tokens.cls_index, patches, 2 * reduction.guard)
        closeness = closeness.masked_fill(near[:, :-1] | near[:, 1:], -torch.inf)
    candidates, targets = patches[:, 0::2], patches[:, 1::2]
    found = closeness.new_full((*candidates.shape, targets.shape[1]), -torch.inf)
    pair = torch.arange(closeness.shape[1])  # between patches number `pair` and `pair + 1`
    found[:, (pair + 1) // 2, pair // 2] = closeness
    return Choices(reduction, tokens, candidates, targets, found, found.isfinite(), found.amax(-1), step.r)
