"""The published methods by plain loops over one image's Python lists: which tokens leave, into what, and how heavily.

Each returns an :class:`Outcome`. Written from the descriptions, not from the tensor code.
"""

import math
from dataclasses import dataclass, field

import naive


@dataclass
class Outcome:
    """pairs: (source, target), targets None if the source is dropped. weights: of x and of the residual, by token."""

    pairs: list
    weights: tuple
    keep_norm: bool = False
    protected: list = field(default_factory=list)


def patches_of(image):
    return [i for i in range(len(image.x)) if i not in image.protected]


def closest(values, source, targets):
    """The most similar target and the similarity; the first of equals."""
    best = min(targets, key=lambda t: naive.distance(values[source], values[t], "cosine"))
    return best, -naive.distance(values[source], values[best], "cosine")


def activity(vector):
    return sum(max(0.0, v) for v in vector)


def by_activity(image, method):
    forward, backward = image.y
    if method.features == "X":
        vectors = image.x
    elif method.direction == "both":
        vectors = [[a + b for a, b in zip(*pair, strict=True)] for pair in zip(forward, backward, strict=True)]
    else:
        vectors = forward if method.direction == "forward" else backward
    score = [activity(vector) for vector in vectors]
    return score, sorted(patches_of(image), key=lambda i: (score[i], i))


def drop_least_active(image, method, step):
    _, order = by_activity(image, method)
    ones = [1.0] * len(image.x)
    return Outcome([(source, None) for source in order[: step.r]], (ones, ones))


def fuse_least_active(image, method, step):
    score, order = by_activity(image, method)
    gone = order[: step.r + 1]
    middle = sum(score[i] * i for i in gone) / sum(score[i] for i in gone)
    seat = min(gone, key=lambda i: abs(i - middle))
    return Outcome([(i, seat) for i in gone if i != seat], (score, score))


def mtr(image, method, step):
    def softplus(v):
        return math.log1p(math.exp(v))

    def mean_step(i):
        both = [
            softplus(d + b)
            for delta, bias in zip(image.delta, image.delta_bias, strict=True)
            for d, b in zip(delta[i], bias, strict=True)
        ]
        return sum(both) / len(both)

    order = sorted(patches_of(image), key=mean_step)
    sources, targets = order[: step.r], order[step.r : step.r + round(method.targets * step.r)]
    ones = [1.0] * len(image.x)
    return Outcome([(s, closest(image.x, s, targets)[0]) for s in sources], (ones, ones))


def utr(image, method, step):
    _, order = by_activity(image, method)
    half = len(order) - len(order) // 2
    found = [(closest(image.x, a, order[half:]), a) for a in order[:half]]
    found.sort(key=lambda pair: -pair[0][1])
    pairs = [(a, b) for (b, _), a in found[: step.r]]
    ones = [1.0] * len(image.x)
    hidden = list(ones)
    for source, _ in pairs[: int(method.pruned * step.r)]:
        hidden[source] = 0.0
    return Outcome(pairs, (hidden, ones))


def stm(image, method, step):
    patches, cls = patches_of(image), image.protected[0]
    guarded = sorted(patches, key=lambda p: (abs(p - cls), p))[: 2 * method.guard]
    found = []
    for k in range(0, len(patches), 2):
        beside = [patches[j] for j in (k - 1, k + 1) if 0 <= j < len(patches) and patches[j] not in guarded]
        if beside and patches[k] not in guarded:
            target, similarity = closest(image.x, patches[k], beside)
            found.append((-similarity, patches[k], target))
    return Outcome([(source, target) for _, source, target in sorted(found)[: step.r]], (image.size, image.size))


def pitome(image, method, step):
    patches = patches_of(image)
    margin = method.margin * (1 - step.block / step.depth)

    def elu(v):
        return v if v > 0 else math.exp(v) - 1

    def energy(i):
        return sum(elu(-naive.distance(image.x[i], image.x[j], "cosine") - margin) for j in patches)

    order = sorted(patches, key=lambda i: -energy(i))
    if step.block >= step.depth / 2:
        order = order[: 2 * step.r]
    found = [(closest(image.x, a, order[1::2]), a) for a in order[0::2]]
    found.sort(key=lambda pair: -pair[0][1])
    return Outcome([(a, b) for (b, _), a in found[: step.r]], (image.size, image.size))


def tofu(image, method, step):
    pairs, _, _ = naive.choose(image.x, image.protected, step.r)
    ones = [1.0] * len(image.x)
    if step.block < method.until * step.depth:
        return Outcome([(source, None) for source, _ in pairs], (ones, ones))
    return Outcome(pairs, (ones, ones), keep_norm=True)


def combine(values, kept, outcome, weights):
    """Weighted means of the survivors and what they absorb."""
    merged = []
    for survivor in kept:
        members = [survivor, *(source for source, target in outcome.pairs if target == survivor)]
        if len(members) == 1:
            merged.append(values[survivor])
            continue
        total = sum(weights[m] for m in members)
        columns = zip(*(values[m] for m in members), strict=True)
        mean = [sum(weights[m] * v for m, v in zip(members, column, strict=True)) / total for column in columns]
        if outcome.keep_norm:
            longest = max(math.hypot(*values[m]) for m in members)
            mean = [v * longest / math.hypot(*mean) for v in mean]
        merged.append(mean)
    return merged
