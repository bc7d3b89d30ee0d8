"""``rmeeto models``: the models that can be built."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Column

from rmeeto.cli import console, options

if TYPE_CHECKING:
    from rmeeto.models.vim.zoo import ZooEntry


def models(
    pattern: Annotated[str, typer.Argument(metavar="[PATTERN]", help="Shell pattern, for instance 'vim_s*'.")] = "*",
    as_json: options.JsonOption = False,
) -> None:
    """List the models: size, tokens, cost, published accuracy, and where the weights are."""
    from rmeeto.errors import UnknownName
    from rmeeto.models.vim import zoo

    names = zoo.list_models(pattern)
    if not names:
        raise UnknownName("model", pattern, zoo.ZOO)
    entries = sorted((facts(name, zoo.ZOO[name]) for name in names), key=lambda entry: entry["parameters"])
    if as_json:
        console.print_json({"models": entries})
        return
    table = console.table(
        Column("model", no_wrap=True),
        console.number("million\nparameters"),
        console.number("frames\n× pixels"),
        console.number("\ntokens"),
        console.number("paper\nG ops"),
        console.number("exact\nGFLOPs"),
        console.number("top-1 %\npublished"),
        Column("weights\nfrom the hub, or shipped", overflow="fold"),
    )
    for entry in entries:
        table.add_row(
            entry["name"],
            f"{entry['parameters'] / 1e6:.2f}",
            pixels(entry["frames"], entry["img_size"]),
            str(entry["tokens"]),
            f"{entry['paper_operations'] / 1e9:.2f}",
            f"{entry['exact_flops'] / 1e9:.2f}",
            "—" if entry["top1_percent"] is None else f"{entry['top1_percent']:.1f}",
            entry["weights"].removeprefix("hf-hub:"),
        )
    console.out().print(table)


def facts(name: str, entry: ZooEntry) -> dict[str, Any]:
    """One model's line."""
    from rmeeto import cost

    config = entry.config
    repository = "/".join((entry.hub or "").split("/")[:2])
    return {
        "name": name,
        "parameters": config.parameters,
        "frames": config.frames,
        "img_size": list(config.img_size),
        "tokens": config.tokens,
        "paper_operations": cost.count(config, convention="paper").total,
        "exact_flops": cost.count(config, convention="exact").total,
        "top1_percent": entry.top1_percent,
        "weights": f"hf-hub:{repository}" if entry.hub else "ships with rmeeto" if entry.packaged else "none",
        "alias": entry.alias,
    }


def pixels(frames: int, img_size: list[int]) -> str:
    """``224``, ``224×448``, or ``8 × 224`` for clips."""
    size = "×".join(map(str, dict.fromkeys(img_size)))
    return size if frames == 1 else f"{frames} × {size}"
