"""What a value tells about itself, in tensors and plain values: asked of the former version and of the present one."""

from dataclasses import asdict

import torch

from rmeeto.reduction.schedule import Stack

STACK = Stack(depth=3, tokens=33, features=frozenset({"B", "C", "Q", "K", "V", "X", "delta", "y"}), time=2)


def answers(value):
    if hasattr(value, "logits"):
        return {"logits": value.logits, "blocks": len(value.blocks), **tokens(value.final)}
    if hasattr(value, "group"):
        return tokens(value)
    if hasattr(value, "assignment"):
        return plan(value)
    if hasattr(value, "steps") and hasattr(value, "moved"):
        return dict(zip(("delta", "u"), value.steps(ramp(2, value), ramp(2, value).sin(), reverse=False), strict=True))
    if callable(getattr(value, "mean", None)):
        names = ("B", "C", "delta", "y") if hasattr(value, "B") else ("Q", "K", "V")
        return {name: value.mean(name) for name in names}
    if hasattr(value, "step") and hasattr(value, "schedule"):
        schedule = value.schedule(STACK) if not value.varies else None
        return {"line": str(value), "counts": None if schedule is None else schedule.counts}
    return value._asdict() if hasattr(value, "_asdict") else asdict(value)


def ramp(width, value):
    """``(2, l, width)`` step sizes for a timing of ``l`` tokens."""
    length = (value.factor if hasattr(value, "factor") else value.gap[0]).shape[1]
    return torch.linspace(0.1, 2, 2 * length * width).reshape(2, length, width)


def tokens(value):
    return {
        "group": value.group(),
        "places": value.origins() if hasattr(value, "origins") else value.places(),
        "sizes": value.sizes(),
        "counts": value.counts(),
        "unmerged": value.unmerge(value.x),
    }


def plan(value):
    size = torch.linspace(1, 2, 2 * value.length).reshape(2, value.length)
    found = {"assignment": value.assignment(), "taken": value.take(size)}
    if value.target is not None:
        found["merged"] = value.merge(size[..., None], value.shares(size))
    return found
