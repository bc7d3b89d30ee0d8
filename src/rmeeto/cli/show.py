"""``rmeeto show``: which patches became one token, drawn over the image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rmeeto.cli import console
from rmeeto.cli.model import build
from rmeeto.cli.numbers import whole_numbers
from rmeeto.cli.options import ImagesArgument, ImplOption, JsonOption, ModelArgument, ReduceOption, WeightsOption
from rmeeto.errors import ConfigError

MOST_IMAGES = 16  # a taller sheet cannot be looked at


def show(
    model: ModelArgument,
    images: ImagesArgument,
    reduce: ReduceOption = None,
    blocks: Annotated[
        str | None,
        typer.Option(metavar="N,…", help="Blocks to draw; by default the first, middle and last that reduce."),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Picture to write: .png, .pdf, .svg.")
    ] = Path("groups.png"),
    weights: WeightsOption = None,
    impl: ImplOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Draw the merged groups over images, as in the paper's Figure 4.

    Every group is filled with its mean colour; pruned patches are grey and hatched.
    """
    wanted = None if blocks is None else whole_numbers("--blocks", blocks, least=0)

    from rmeeto import viz
    from rmeeto.predict import find_images, read_image
    from rmeeto.reduction import parse_reduction

    reduction = None if reduce is None else parse_reduction(reduce)
    viz.check_format(output)
    paths = find_images(images)
    if len(paths) > MOST_IMAGES:
        console.note(f"drawing the first {MOST_IMAGES} of {len(paths)} images")
    paths = paths[:MOST_IMAGES]
    pictures = [read_image(path) for path in paths]
    network = build(model, weights, impl=impl, reduction=reduction)
    chosen = viz.typical_blocks(network) if wanted is None else wanted
    if not viz.reducing_blocks(network):
        raise ConfigError(
            "draw merged groups",
            given="a model without a reduction",
            why="every token is still its own patch",
            fix="say how to reduce, for instance --reduce merge:r=11",
        )
    rows = viz.merged_groups(network, pictures, [path.stem for path in paths], chosen)
    viz.save_figure(viz.figure(rows), output)
    if as_json:
        tokens = {block: network.schedule.tokens[block] for block in chosen}
        console.print_json(
            {
                "output": str(output),
                "images": [str(path) for path in paths],
                "reduction": str(network.reduction),
                "tokens_at_block": tokens,
            }
        )
    else:
        console.out().print(f"wrote [bold]{output}[/]: {network.reduction}, blocks {', '.join(map(str, chosen))}")
