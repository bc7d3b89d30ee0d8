"""Bad values and damage, as from users, programs and attackers."""

import copy
import math

NUMBERS = (0, 1, 2, 3, 5, 11, 200, -1, -7, 10**5, 10**9, 10**21, 0.0, 0.3, 0.5, 1.0, 1.4, 2.5, -0.5, 1e-9, 1e300)
STRANGE = (
    None,
    True,
    False,
    math.nan,
    math.inf,
    -math.inf,
    10**400,
    "",
    "a",
    "0",
    "3",
    "1e9",
    "none",
    "auto",
    "é",
    "中",
)
MORE = ("\udcff", "a\0b", "~nobody-of-that-name", "x" * 3000, "-", "--", "@", "@/dev/null", "..", "/", ":", "[red]")
LISTS = ([], [1], [1, 2], [16, 16], ["a"], [None], (), (224,), (16, 16), {}, {"a": 1}, b"bytes", 1j)
VALUES = (*NUMBERS, *STRANGE, *MORE, *LISTS)
SIGNS = "0123456789-+*:;,.=@'\"[]{}()<>/\\ \t\n\0xéZ_~$%#\ufeff\udcff"


def value(rng):
    return rng.choice(rng.choice((NUMBERS, STRANGE, MORE, LISTS)))


def word(rng):
    """A value as a user types it."""
    return str(value(rng)).replace("\0", "0")


def mutated_text(rng, text):
    """A few letters changed, or whole pieces left out, repeated and swapped."""
    for _ in range(rng.randint(1, 4)):
        a, b = sorted(rng.randint(0, len(text)) for _ in range(2))
        way = rng.randrange(6)
        if way == 0:
            text = text[:a] + rng.choice(SIGNS) + text[a:]
        elif way == 1:
            text = text[:a] + text[min(b, a + 3) :]
        elif way == 2:
            text = text[:a] + text[a : a + 20] * rng.randint(2, 5) + text[a + 20 :]
        elif way == 3:
            text = text[:a]
        elif way == 4:
            text = text[:a] + word(rng) + text[min(b, a + 5) :]
        else:
            lines = text.split("\n")
            rng.shuffle(lines)
            text = "\n".join(lines)
    return text


def mutated_bytes(rng, content):
    """A few bytes changed, left out, repeated or cut off."""
    content = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        start = rng.randint(0, len(content)) if rng.random() < 0.5 else rng.randint(0, min(400, len(content)))
        way = rng.randrange(5)
        if way == 0:
            content[start : start + 1] = bytes([rng.randrange(256)])
        elif way == 1:
            del content[start : start + rng.choice((1, 8, 1000))]
        elif way == 2:
            content[start:start] = content[start : start + rng.choice((1, 8, 1000))]
        elif way == 3:
            del content[start:]
        else:
            content[start : start + 8] = rng.choice((b"\0" * 8, b"\xff" * 8, b"\x7f" * 4))
    return bytes(content)


def mutated_tree(rng, tree):
    """A copy of JSON values in which one is another, missing, or there in addition."""
    tree = copy.deepcopy(tree)
    branch = tree
    while True:
        names = list(branch) if isinstance(branch, dict) else list(range(len(branch)))
        if not names:
            return tree
        name = rng.choice(names)
        if isinstance(branch[name], dict | list) and branch[name] and rng.random() < 0.8:
            branch = branch[name]
            continue
        way = rng.randrange(4)
        if way == 0 and isinstance(branch, dict):
            del branch[name]
        elif way == 1 and isinstance(branch, dict):
            branch[rng.choice(("x", "", "dim", "architecture"))] = value(rng)
        else:
            branch[name] = value(rng)
        return tree
