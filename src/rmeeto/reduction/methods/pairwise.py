"""Match pairs of tokens, then merge or prune: the paper's method and all its choices."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from rmeeto.errors import ConfigError
from rmeeto.ops import Matching
from rmeeto.reduction.elapsed import Stretch
from rmeeto.reduction.frames import pairs_near, patch_frames, targets_near
from rmeeto.reduction.grid import closest_in_grid, pairs_in_radius, patch_places, placing_operations
from rmeeto.reduction.match import (
    Distance,
    Grouping,
    Match,
    Pairing,
    Rank,
    match,
    matching_operations,
    patch_positions,
    reach_of,
)
from rmeeto.reduction.methods.moves import merged, pruned
from rmeeto.reduction.methods.one_call import are_as_written, merged_in_one_call, replaced_methods
from rmeeto.reduction.methods.partners import ComparesFeatures, FeatureName, matching_features
from rmeeto.reduction.methods.scheduled import ScheduledReduction
from rmeeto.reduction.plan import MergeOp, Plan, interleave
from rmeeto.reduction.protocol import Schedule, Stack, Step, Widths
from rmeeto.reduction.tokens import Features, Tokens
from rmeeto.runtime.randomness import rand_by_image

Order = Literal["kept", "dropped", "odd-even"]

# The most similar of every second token join their best partners, in order.
PLAIN_CHOICES: dict[str, object] = {
    "grouping": "odd-even",
    "nth": 1,
    "rank": "top",
    "pairing": "best",
    "order": "kept",
    "shuffle": 0,
}


@dataclass(frozen=True, kw_only=True, repr=False)
class PairwiseReduction(ComparesFeatures, ScheduledReduction, ABC):
    """Choices that merging and pruning share. Protected tokens are never touched; their true positions are tracked.

    features: compare tokens by X; by B, C or delta of a Mamba (Table 6); by Q, K or V of a Transformer.
    distance: cosine, l1 or l2 (Table 7).
    grouping: odd-even, front-behind or random (Table 20). nth: each candidate's nth closest partner (Table 15).
    rank: remove the r most similar candidates or random ones; pairing: best or random partner (Table 22).
    window: with odd-even grouping, look for partners at most this many patches away in the present sequence (time grows
        with l instead of l²); None compares with all of them.
    frames: of a clip, with odd-even grouping and order kept, look for partners in the patch's own frame and this
        many before and behind it (0 is its own only; time grows with l); None compares with all of them. The frames of
        a patch that covers several count as one. Patches without a partner there leave last, and join the next target
        in the sequence.
    radius: with order kept, look for partners at most this far away in the grid of patches, in rows, columns and frames
        alike (1 is the 4 neighbours at the sides); a merged token lies at the mean place of the patches it stands for.
        Candidates and targets then alternate along a path that turns round at the end of every row, so they begin as a
        checkerboard. Patches without a partner so near leave last, to the nearest. None compares with all.
    order: ``kept``; ``dropped``, the remaining candidates by falling similarity and then the targets;
        or ``odd-even``, the remaining candidates and then the targets, each in order (Table 4).
    shuffle: share of the patches that are permuted at random before each reduction (Table 5).

    Raises:
        ConfigError, UnknownName: impossible values, when built; counts too large, when given to a model.
    """

    features: FeatureName = "X"
    distance: Distance = "cosine"
    grouping: Grouping = "odd-even"
    nth: int = 1
    window: int | None = None
    frames: int | None = None
    radius: float | None = None
    rank: Rank = "top"
    pairing: Pairing = "best"
    order: Order = "kept"
    shuffle: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nth < 1:
            raise ConfigError(f"match the nth={self.nth} closest token", why="the closest is nth=1")
        if self.window is not None and self.window < 1:
            raise ConfigError(f"match within window={self.window} tokens", why="the next token is window=1")
        if self.window is not None and self.grouping != "odd-even":
            raise ConfigError(
                f"match within window={self.window} tokens",
                given=f"grouping={self.grouping}",
                why="every candidate has a target beside it only if candidates and targets alternate",
                fix="leave grouping at odd-even, or leave window out",
            )
        if self.frames is not None:
            self._check_frames(self.frames)
        if self.radius is not None:
            self._check_radius(self.radius)
        if not 0 <= self.shuffle <= 1:
            raise ConfigError(f"shuffle={self.shuffle} of the tokens", why="a share lies between 0 and 1")

    def _check_frames(self, frames: int) -> None:
        asked = f"match within frames={frames!r}"
        if isinstance(frames, bool) or not isinstance(frames, int) or frames < 0:
            raise ConfigError(asked, why="it is a whole number of frames on either side; 0 is the token's own frame")
        if self.window is not None:
            raise ConfigError(asked, given=f"window={self.window}", why="a token has one neighbourhood", fix="use one")
        if self.grouping != "odd-even" or self.order != "kept" or self.shuffle:
            raise ConfigError(
                asked,
                given=f"grouping={self.grouping}, order={self.order}, shuffle={self.shuffle}",
                why="tokens must stand frame by frame, candidates and targets in turn",
                fix="leave grouping, order and shuffle out, or frames",
            )

    def _check_radius(self, radius: float) -> None:
        asked = f"match within radius={radius:g}"
        if not 1 <= radius < math.inf:
            raise ConfigError(asked, why="the next patch of a row or column is radius=1, and a radius is finite")
        if self.window is not None or self.frames is not None:
            given = f"window={self.window}, frames={self.frames}"
            raise ConfigError(asked, given=given, why="a token has one neighbourhood", fix="use one")
        left = ("grouping", "nth", "rank", "pairing", "order", "shuffle")
        if changed := [f"{name}={getattr(self, name)}" for name in left if getattr(self, name) != PLAIN_CHOICES[name]]:
            raise ConfigError(
                asked,
                given=", ".join(changed),
                why="in a grid the most similar tokens join their best partner, and order is kept",
                fix=f"leave {', '.join(left)} out, or radius",
            )

    def schedule(self, stack: Stack) -> Schedule:
        """Tokens to remove at each block of a network.

        Raises:
            ConfigError: frames in a network of images, radius in one without a grid; and the errors of every method.
        """
        if self.radius is not None and stack.grid is None:
            raise ConfigError(
                f"match within radius={self.radius:g}",
                given="a network whose tokens lie in no grid",
                why="distances are those of rows and columns",
                fix="leave radius out; window=1 is the neighbourhood in the sequence",
            )
        if self.frames is not None and stack.time == 1:
            raise ConfigError(
                f"match within frames={self.frames}",
                given="a network whose patches all lie in one frame",
                why="an image has no frames to be near to each other",
                fix="leave frames out; window=1 is the neighbourhood of an image",
            )
        return super().schedule(stack)

    def operations(self, widths: Widths, patches: int, step: Step) -> float:
        """Exact operations of one step."""
        return self._operations(widths, patches, step, step.r)

    def _operations(self, widths: Widths, patches: int, step: Step, merged: int) -> float:
        """Operations of comparing, and of merging so many tokens."""
        placing = 0.0 if self.radius is None else placing_operations(patches, step.time)
        near = self._near(patches, step)
        return placing + matching_operations(widths, self.features, patches, merged, self.window, pairs=near)

    def _near(self, patches: int, step: Step) -> int | None:
        """Pairs in near frames, or near in the grid, if patches had been lost evenly; None, for all, without either."""
        if self.radius is not None and step.grid is not None:
            return pairs_in_radius(patches, step.grid, step.time, self.radius)
        return None if self.frames is None else pairs_near(patches, step.time, self.frames)

    def step(self, tokens: Tokens, features: Features | None, step: Step) -> Tokens:
        """Remove tokens before a block, given the last block's output and features."""
        if self.shuffle:
            tokens = self.apply(tokens, shuffle_plan(tokens, self.shuffle))
        return self.apply(tokens, self.plan(tokens, self.matched(tokens, features, step)))

    def matched(self, tokens: Tokens, features: Features | None, step: Step) -> Match:
        """The pairs of a step."""
        compared = matching_features(tokens, features, self.features)
        if self.radius is not None:
            assert step.grid is not None, "a schedule of a network without a grid is refused"
            places = patch_places(tokens, step.grid, step.time)
            where = (compared, places, tokens.protected)
            return closest_in_grid(*where, step.r, grid=step.grid, radius=self.radius, distance=self.distance)
        return match(
            compared,
            tokens.protected,
            step.r,
            distance=self.distance,
            grouping=self.grouping,
            nth=self.nth,
            rank=self.rank,
            pairing=self.pairing,
            window=self.window,
            seen=None if self.frames is None else targets_near(patch_frames(tokens, step.time), self.frames),
        )

    def plan(self, tokens: Tokens, matched: Match) -> Plan:
        """Lay out the survivors of a match in this method's order."""
        if self.order == "kept":
            return Plan.joining(matched.source, matched.target, tokens.length)
        return rearranged(tokens, matched, by_similarity=self.order == "dropped")

    @abstractmethod
    def apply(self, tokens: Tokens, plan: Plan) -> Tokens:
        """Move every field of the tokens by one plan."""


@dataclass(frozen=True, kw_only=True, repr=False)
class TokenMerge(PairwiseReduction):
    """Merge each chosen token into its partner, in order (R-MeeTo, algorithms 1 to 4).

    op: ``sum``, the mean weighted by how many original tokens each stands for, or ``mean``, ``max``, ``min``
        (Table 17).
    Sizes add up with every op.
    stretch: let a token that stands for s original ones take s^stretch times its step of time in every later scan
        (our own; 0 leaves time alone, at 1 it takes as long as the tokens that it absorbed together).

    Shared with the other methods, and described in full by :class:`ScheduledReduction`, ``PairwiseReduction``:
    r, ratio, gflops, fewer: how much to remove, one of the four: tokens per reducing block (a number or a list), the
        reduction ratio to reach, the most 10⁹ operations an image may cost, or how many times fewer operations.
    blocks: which blocks reduce (``even``, ``odd``, ``all``, ``lower``, ``upper``, ``6::6``). slope: r rises or falls
        over them. minimum: of tokens that stay.
    features: what tokens are compared by (X, B, C, delta; Q, K, V). distance: cosine, l1 or l2.
    grouping: odd-even, front-behind or random. order: of the remaining tokens, kept, dropped or odd-even.
    window, frames, radius: how far away a partner may be, in patches of the sequence, in frames, in rows and columns;
        None looks at all.
    nth, rank, pairing, shuffle: variants for the paper's comparisons.

    >>> TokenMerge(r=11, features="C")
    TokenMerge('merge:r=11,features=C')
    """

    op: MergeOp = "sum"
    stretch: float = 0.0

    name: ClassVar[str] = "merge"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not math.isfinite(self.stretch):
            raise ConfigError(f"stretch time by size to the power of {self.stretch}", why="an exponent is finite")

    @property
    def needs(self) -> frozenset[str]:
        """What tokens are compared by, and Δ where time is stretched."""
        return super().needs | (frozenset({"delta"}) if self.stretch else frozenset())

    def timing_operations(self, widths: Widths, tokens: int) -> float:
        """Δ times a power of the size, in both directions."""
        return 2 * tokens * widths.features["delta"] if self.stretch else 0.0

    def step(self, tokens: Tokens, features: Features | None, step: Step) -> Tokens:
        """Merge tokens before a block, in one call where that is possible."""
        return self.at_once(tokens, features, step.r) or super().step(tokens, features, step)

    def at_once(self, tokens: Tokens, features: Features | None, r: int) -> Tokens | None:
        """What :meth:`step` gives for the plain choices, in inference on a processor; None elsewhere."""
        matching = self.plain_matching()
        if matching is None:
            return None
        return merged_in_one_call(tokens, matching_features(tokens, features, self.features), r, matching)

    def plain_matching(self) -> Matching | None:
        """How pairs are found, if all else is merging them in order by size; None if this asks for more."""
        if self.beyond_plain_matching():
            return None
        return Matching(self.distance, self.nth, None if self.window is None else reach_of(self.window))

    def beyond_plain_matching(self) -> list[str]:
        """What this asks for beyond finding pairs and merging them in order by size; empty if nothing."""
        asked = [
            f"the reduction has {name}={getattr(self, name)}" for name in PLAIN if getattr(self, name) != PLAIN[name]
        ]
        return [*asked, *replaced_methods(self, IN_ONE_CALL)]

    def as_written(self) -> bool:
        """Whether the methods that one call stands in for are those below: not overridden, nor replaced later."""
        return are_as_written(self, IN_ONE_CALL)

    def apply(self, tokens: Tokens, plan: Plan) -> Tokens:
        """Merge hidden values and residual with one plan and the same old sizes."""
        size = tokens.sizes()
        reduced = merged(tokens, plan, size if self.op == "sum" else torch.ones_like(size), self.op)
        return reduced.replace(timing=Stretch(reduced.sizes() ** self.stretch)) if self.stretch else reduced


# What plain matching leaves as it is.
PLAIN: dict[str, object] = {
    **{name: choice for name, choice in PLAIN_CHOICES.items() if name != "nth"},
    "op": "sum",
    "stretch": 0,
    "frames": None,
    "radius": None,
}
# What a call that merges at once, or that computes a whole network, does not call.
IN_ONE_CALL = {name: getattr(TokenMerge, name) for name in ("step", "at_once", "matched", "plan", "apply")}


@dataclass(frozen=True, kw_only=True, repr=False)
class TokenPrune(PairwiseReduction):
    """Drop the tokens that :class:`TokenMerge` would merge (the paper's comparison in Tables 1a, 5b and 18)."""

    name: ClassVar[str] = "prune"

    def operations(self, widths: Widths, patches: int, step: Step) -> float:
        """Exact operations of one step, which compares like merging and then merges nothing."""
        return self._operations(widths, patches, step, 0)

    def apply(self, tokens: Tokens, plan: Plan) -> Tokens:
        """Keep the survivors as they are."""
        return pruned(tokens, Plan(plan.kept, plan.source, None))


def rearranged(tokens: Tokens, matched: Match, *, by_similarity: bool) -> Plan:
    """A plan whose survivors are the remaining candidates, by falling similarity or in order, and then the targets.

    Protected tokens stand where they would with order kept: only patches are rearranged around them.
    """
    ordered, protected = Plan.dropping(matched.source, tokens.length), tokens.protected
    place, length = ordered.assignment(), tokens.length
    rank = torch.arange(matched.ranked.shape[1], device=place.device).expand_as(matched.ranked)
    key = torch.full_like(place, 2 * length)  # sources and protected tokens sort past the end
    key = key.scatter(1, matched.ranked, rank if by_similarity else matched.ranked)
    key = key.scatter(1, matched.targets, matched.targets + length)
    key = key.scatter(1, matched.source, 2 * length)
    patches = key.argsort(dim=1, stable=True)[:, : ordered.kept.shape[1] - protected.shape[1]]
    kept = interleave(patches, protected, place.gather(1, protected))
    return Plan(kept, matched.source, Plan(kept, matched.source, None).follow(matched.target))


def shuffle_plan(tokens: Tokens, share: float) -> Plan:
    """Permute a random share of the patches of each image among themselves; protected tokens stay."""
    patches = patch_positions(tokens.protected, tokens.length)
    count = int(patches.shape[1] * share)
    chosen = rand_by_image(patches.shape, patches.device).argsort(1)[:, :count]
    moved = chosen.gather(1, rand_by_image(chosen.shape, patches.device).argsort(1))
    patches = patches.scatter(1, chosen, patches.gather(1, moved))
    kept = interleave(patches, tokens.protected, tokens.protected)
    none = kept[:, :0]
    return Plan(kept, none, none)
