"""The options that commands share, each spelt and explained once."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from rmeeto.errors import ConfigError

Impl = Literal["auto", "reference", "cpp", "triton"]
Sampling = Literal["sparse", "dense"]

ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="A name, a folder that rmeeto saved, or hf-hub:owner/name@revision.")
]
FilesArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="FILE...",
        help="Images (clips for a video model), folders of them, or patterns such as 'a/*.jpg'.",
    ),
]
ReduceOption = Annotated[
    str | None, typer.Option("--reduce", metavar="METHOD", help="How to reduce: merge:r=11, prune:ratio=0.3, none.")
]
ReducesOption = Annotated[
    list[str] | None,
    typer.Option("--reduce", metavar="METHOD", help="How to reduce, for instance merge:r=11; repeat to compare."),
]
WeightsOption = Annotated[
    str | None,
    typer.Option(
        metavar="FILE", help="Weights to load: .safetensors, .pth, a folder, hf-hub:…; 'random' to load nothing."
    ),
]
DataOption = Annotated[
    str | None,
    typer.Option(
        "--data",
        "--data-dir",
        metavar="DIR",
        help="A folder with train/ and val/, or lists of clips, a timm dataset string, or 'digits'.",
    ),
]
DeviceOption = Annotated[str, typer.Option(metavar="NAME", help="auto, cpu, cuda, cuda:1 ….")]
PrecisionOption = Annotated[str, typer.Option(metavar="NAME", help="float32, bfloat16 (autocast), or auto.")]
WorkersOption = Annotated[int, typer.Option("--workers", "-j", min=0, help="Processes that read images.")]
BatchOption = Annotated[
    int, typer.Option("--batch", "-b", "--batch-size", min=1, metavar="N", help="Images at a time.")
]
ImplOption = Annotated[Impl, typer.Option(help="Kernels; one named here never falls back to another.")]
SamplingOption = Annotated[
    Sampling, typer.Option(help="Frames of a clip: one from each of equal parts, or a stretch at an even pace.")
]
FrameStrideOption = Annotated[
    int, typer.Option("--frame-stride", min=1, metavar="N", help="Of dense sampling: every Nth frame.")
]
SegmentsOption = Annotated[int, typer.Option(min=1, metavar="N", help="Choices of frames per clip, scores averaged.")]
CropsOption = Annotated[
    int, typer.Option(min=1, metavar="N", help="Crops per frame along its longer side, scores averaged.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object, and nothing else, to stdout.")]


def whole_numbers(option: str, text: str, *, least: int) -> list[int]:
    """The numbers of a comma-separated list, each once, in order.

    Raises:
        ConfigError: one is not a whole number, or too small.
    """
    numbers: dict[int, None] = {}
    for part in text.split(","):
        try:
            number = int(part)
        except ValueError:
            number = least - 1
        if number < least:
            raise ConfigError(
                f"read {option} {text}",
                given=repr(part.strip()),
                why=f"it takes whole numbers from {least} on, separated by commas",
                fix=f"for instance {option} {least + 1},{least + 8}",
            )
        numbers[number] = None
    return list(numbers)
