"""``rmeeto show``: which patches became one token, drawn over the image or the frames of a clip."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rmeeto.cli import console, options
from rmeeto.cli.model import build, fitting_reductions, kind_of_files
from rmeeto.errors import ConfigError
from rmeeto.files.paths import check_output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rmeeto.models.reducible import ReducibleModel

MOST_IMAGES, MOST_CLIPS = 16, 4  # a taller sheet cannot be looked at


def show(
    model: options.ModelArgument,
    files: options.FilesArgument,
    reduce: options.ReduceOption = None,
    blocks: Annotated[
        str | None,
        typer.Option(metavar="N,…", help="Blocks to draw; by default the first, middle and last that reduce."),
    ] = None,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE", help="Picture to write: .png, .pdf, .svg; of clips .gif, .mp4."),
    ] = Path("groups.png"),
    weights: options.WeightsOption = None,
    impl: options.ImplOption = "auto",
    as_json: options.JsonOption = False,
) -> None:
    """Draw the merged groups over images or clips, as in the paper's Figures 4 and 5.

    Every group is filled with its mean colour, in all frames the same; pruned patches are grey and hatched.
    """
    numbers = None if blocks is None else options.whole_numbers("--blocks", blocks, least=0)

    from rmeeto import viz
    from rmeeto.data import CLIPS
    from rmeeto.evaluation.prediction import find_files
    from rmeeto.models.description import describe

    (reduction,) = fitting_reductions(describe(model), [reduce]) if reduce is not None else [None]
    kind = kind_of_files(model)
    viz.check_format(output, films=kind is CLIPS)
    check_output(output)
    paths, most = find_files(files, kind), MOST_CLIPS if kind is CLIPS else MOST_IMAGES
    if len(paths) > most:
        console.note(f"drawing the first {most} of {len(paths)} {kind.many}")
        paths = paths[:most]
    network = build(model, weights, impl=impl, reduction=reduction)
    if not viz.reducing_blocks(network):
        raise ConfigError(
            "draw merged groups",
            given="a model without a reduction",
            why="every token is still its own patch",
            fix="say how to reduce, for instance --reduce merge:r=11",
        )
    chosen = viz.typical_blocks(network) if numbers is None else numbers
    draw = draw_clips if kind is CLIPS else draw_images
    draw(network, paths, chosen, output)
    if as_json:
        varies = network.reduction is not None and network.reduction.varies  # from image to image
        tokens = None if varies else {block: network.schedule.tokens[block] for block in chosen}
        console.print_json(
            {
                "output": str(output),
                kind.many: [str(path) for path in paths],
                "reduction": str(network.reduction),
                "tokens_at_block": tokens,
            }
        )
    else:
        console.out().print(f"wrote [bold]{output}[/]: {network.reduction}, blocks {', '.join(map(str, chosen))}")


def draw_images(network: ReducibleModel, paths: Sequence[Path], blocks: Sequence[int], output: Path) -> None:
    """One row for each image."""
    from rmeeto import viz
    from rmeeto.evaluation.prediction import read_image

    pictures = [read_image(path) for path in paths]
    rows = viz.merged_groups(network, pictures, [path.stem for path in paths], blocks)
    viz.save_figure(viz.figure(rows), output)


def draw_clips(network: ReducibleModel, paths: Sequence[Path], blocks: Sequence[int], output: Path) -> None:
    """Frames side by side, or one after another if the output is a film."""
    from rmeeto import viz
    from rmeeto.evaluation.prediction import read_clip

    inputs = [read_clip(network, path) for path in paths]
    clips = viz.merged_clip_groups(network, inputs, [path.stem for path in paths], blocks)
    if viz.is_animation(output):
        viz.save_animation(map(viz.figure, viz.moments(clips)), output)
    else:
        viz.save_figure(viz.figure(viz.strip(clips)), output)
