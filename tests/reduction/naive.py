"""Reduction by plain loops over Python lists, written from the paper's algorithms: what the tensors must equal."""

import math


def distance(a: list[float], b: list[float], name: str) -> float:
    if name == "cosine":
        dot = sum(x * y for x, y in zip(a, b, strict=True))
        return -dot / (math.hypot(*a) * math.hypot(*b))
    if name == "l1":
        return sum(abs(x - y) for x, y in zip(a, b, strict=True))
    return math.dist(a, b)


def choose(
    features,
    protected: list[int],
    r: int,
    *,
    grouping="odd-even",
    distance_name="cosine",
    nth=1,
    window=None,
    frame=None,
    frames=None,
):
    """Pairs (source, target) by falling similarity, and all candidates in that order; targets within the window.

    With the frame of every token: targets at most so many frames away; a candidate without any goes last, to the
    first target of a later frame, or to the very last target.
    """
    patches = [i for i in range(len(features)) if i not in protected]
    half = len(patches) - len(patches) // 2
    split = {"odd-even": (patches[0::2], patches[1::2]), "front-behind": (patches[:half], patches[half:])}
    candidates, targets = split[grouping]
    found = []
    for candidate in candidates:
        here = patches.index(candidate)
        seen = [t for t in targets if window is None or abs(patches.index(t) - here) <= window]
        if frames is not None:
            seen = [t for t in targets if abs(frame[t] - frame[candidate]) <= frames]
        if not seen:
            later = [t for t in targets if frame[t] > frame[candidate]]
            found.append((math.inf, candidate, later[0] if later else targets[-1]))
            continue
        by_distance = sorted(seen, key=lambda t: (distance(features[candidate], features[t], distance_name), t))
        partner = by_distance[min(nth, len(seen)) - 1]
        found.append((distance(features[candidate], features[partner], distance_name), candidate, partner))
    found.sort()
    return [(source, target) for _, source, target in found[:r]], [source for _, source, _ in found], targets


def layout(length: int, protected: list[int], pairs, ranked, targets, order: str) -> list[int]:
    """Input positions of the survivors in output order."""
    gone = {source for source, _ in pairs}
    kept = [i for i in range(length) if i not in gone]
    if order == "kept":
        return kept
    remaining = [c for c in ranked if c not in gone]
    patches = (sorted(remaining) if order == "odd-even" else remaining) + targets
    patches = iter(patches)
    return [token if token in protected else next(patches) for token in kept]


def combine(values, sizes, kept, pairs, op: str):
    """Merged values and sizes."""
    merged, merged_sizes = [], []
    for survivor in kept:
        members = [survivor, *(source for source, target in pairs if target == survivor)]
        weights = [sizes[m] if op == "sum" else 1.0 for m in members]
        columns = zip(*(values[m] for m in members), strict=True)
        if op in ("max", "min"):
            merged.append([{"max": max, "min": min}[op](column) for column in columns])
        else:
            merged.append(
                [sum(w * v for w, v in zip(weights, column, strict=True)) / sum(weights) for column in columns]
            )
        merged_sizes.append(sum(sizes[m] for m in members))
    return merged, merged_sizes
