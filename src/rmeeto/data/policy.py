"""Augmentation policies as timm spells them, with no part that timm would leave out without a word."""

from __future__ import annotations

import re

from rmeeto.errors import ConfigError

# Letters of the settings, each followed by a number; what stands here for one kind is unknown to the others.
SETTINGS = {
    "rand": ("m", "n", "p", "mstd", "mmax", "inc"),
    "augmix": ("m", "w", "d", "a", "b", "mstd"),
}
OF_FIXED_POLICIES = ("mstd",)  # original, originalr, v0, v0r, 3a
TRANSFORM_SETS = ("tweights", "t3a", "t3aw")  # of rand


def check_policy(policy: str) -> None:
    """Refuse a policy such as ``rand-m9-mstd0.5-inc1`` if one of its sections means nothing to timm.

    timm itself refuses unknown policies and unknown letters before a number; other sections it ignores.

    Raises:
        ConfigError: it names the section.
    """
    kind, *sections = policy.split("-")
    known = SETTINGS.get(kind, OF_FIXED_POLICIES)
    for section in sections:
        if kind == "rand" and section in TRANSFORM_SETS:
            continue
        match = re.fullmatch(r"([a-z]+)\d.*", section)
        if match is None or match[1] not in known:
            sets = f"; or one of {', '.join(TRANSFORM_SETS)}" if kind == "rand" else ""
            raise ConfigError(
                f"augment by auto_augment = {policy!r}",
                given=f"the section {section!r}",
                why=f"the sections of {kind!r} are {', '.join(known)}, each with a number behind it{sets}",
                fix='for instance "rand-m9-mstd0.5-inc1", or "none"',
            )
