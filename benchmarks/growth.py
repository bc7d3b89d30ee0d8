"""How time and peak memory of inference grow with tokens, batch, width, and with the FLOPs that a reduction leaves.

    python benchmarks/growth.py [--device cpu] [--frames 1 2 4 8 16 32 64] [--rounds 5] [--threads 2] [--plot FILE.svg]

Four axes, each with its own model: tokens by VideoMamba-Ti clips of 1 to 64 frames (197 to 12,545 tokens), unreduced
and merged among neighbours by 11 tokens a frame; batch and width by Vim-Ti; r by Vim-S, batch 8, against the exact
FLOPs that r leaves. Time is the median over rounds in which every case of the axis has its turn. Memory is by how much
the peak of a fresh process rises in one forward pass above weights and input, the largest of three. The exponents are
fitted by least squares to the logarithms: 1 is linear, and on the last axis 1 says that all FLOPs saved are saved time.
Inputs are noise, because no step depends on the images.

The peak at the most tokens is also given as a multiple of two blocks' activations. What a block must hold at once, when
everything is freed after its last use: at its fullest moment, the second direction's scan, per token

    residual d · [u, gate] as the projection lays them side by side 2e · output of the first direction e ·
    convolved u e · [low-rank delta, B, C] R + 2n · delta e · output of the second direction e

which are d + 6e + R + 2n numbers of four bytes (d width, e inner width, n states, R rank of delta): 10.2 kB a token for
VideoMamba-Ti. What reductions compare tokens by and what norms pass on is not counted, though a block may hold it.
No figure is reported if the operations' tests are red.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

import rmeeto
from _growth_plot import draw
from _memory import grown_mib
from _timing import ROOT, Times, compare, operations_of_a_model, refuse_if_red, save
from rmeeto import TokenMerge
from rmeeto.config import ModelConfig
from rmeeto.cost import flops
from rmeeto.models.vim.backbone import VisionMamba
from rmeeto.reduction.tokens import Tokens
from rmeeto.runtime.devices import autocast

REMOVED_PER_FRAME = 11
FLOAT_BYTES = 4
PROCESSES = 3
UNREDUCED = "unreduced"


@dataclass(frozen=True)
class Case:
    """One point of a curve. changes: of the model's sizes."""

    series: str
    model: str
    batch: int = 1
    changes: dict[str, Any] = field(default_factory=dict)
    reduction: TokenMerge | None = None

    def build(self, **changes: Any) -> VisionMamba:
        return rmeeto.create_model(self.model, **{"reduction": self.reduction, **self.changes, **changes})


@dataclass(frozen=True)
class Axis:
    """What varies. at: a case's position on the axis."""

    name: str
    unit: str
    cases: list[Case]
    at: Callable[[Case], float]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--frames", nargs="+", type=int, default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 2, 4, 8, 16])
    parser.add_argument("--widths", nargs="+", type=int, default=[96, 192, 384, 768])
    parser.add_argument("--rates", nargs="+", type=int, default=[0, 5, 11, 20])
    parser.add_argument("--depth", type=int, help="cut every network to so many blocks, for a trial")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--plot", type=Path, help="default: docs/growth.svg, docs/growth_cuda.svg")
    return parser.parse_args()


def axes(options: argparse.Namespace) -> list[Axis]:
    depth = {} if options.depth is None else {"depth": options.depth}
    clips = [
        Case(series, "videomamba_tiny_video", changes=depth | {"frames": frames}, reduction=reduction)
        for frames in options.frames
        for series, reduction in (
            (UNREDUCED, None),
            ("merged among neighbours", TokenMerge(r=REMOVED_PER_FRAME * frames, window=1)),
        )
    ]
    batches = [Case(UNREDUCED, "vim_tiny", batch=batch, changes=depth) for batch in options.batches]
    widths = [Case(UNREDUCED, "vim_tiny", changes=depth | {"dim": width}) for width in options.widths]
    rates = [
        Case("merged", "vim_small", batch=8, changes=depth, reduction=TokenMerge(r=r) if r else None)
        for r in options.rates
    ]
    return [
        Axis("tokens", "tokens", clips, lambda case: case.build().schedule.tokens[0]),
        Axis("batch", "images", batches, lambda case: case.batch),
        Axis("width", "channels", widths, lambda case: case.build().config.dim),
        Axis("r", "GFLOPs an image", rates, lambda case: round(flops(case.build()).total / 1e9, 4)),
    ]


def forward_pass(case: Case, device: torch.device, precision: str) -> Callable[[], object]:
    """One forward pass of a case, everything else prepared."""
    torch.manual_seed(0)
    model = rmeeto.freeze(case.build().to(device))
    pack(model, device, precision)
    images = torch.randn(case.batch, *model.config.input_size).to(device)
    return partial(run, model, images, precision)


def pack(model: VisionMamba, device: torch.device, precision: str) -> None:
    """Let frozen blocks pack their weights, which they do at first use: packed weights are not counted."""
    one = torch.zeros(1, 1, model.config.dim, device=device)
    with torch.inference_mode(), autocast(device, precision):
        for block in model.layers:
            block(Tokens(x=one, residual=None, protected=torch.zeros(1, 1, dtype=torch.int64, device=device)))


def run(model: VisionMamba, images: torch.Tensor, precision: str) -> None:
    with torch.inference_mode(), autocast(images.device, precision):
        model(images)


def forward_pass_alone(case: Case, device: torch.device, precision: str) -> Callable[[], object]:
    """The same in a fresh process, after a tiny pass in which libraries initialise."""
    frames = {"frames": 1} if "frames" in case.changes else {}
    tiny = rmeeto.freeze(case.build(depth=1, img_size=(32, 32), reduction=None, **frames).to(device))
    run(tiny, torch.randn(1, *tiny.config.input_size).to(device), precision)
    return forward_pass(case, device, precision)


def block_activations_bytes(config: ModelConfig, tokens: int) -> int:
    """Bytes that one block must hold at once for one image, as derived in the module's docstring."""
    return FLOAT_BYTES * tokens * (config.dim + 6 * config.inner + config.rank + 2 * config.state)


def exponent(places: list[float], values: list[float | None]) -> float | None:
    """The exponent with which the values grow along the axis; None if some are unknown or too small to measure."""
    if len(set(places)) < 2 or not all(values):
        return None
    return round(statistics.linear_regression(list(map(math.log, places)), list(map(math.log, values))).slope, 3)


def measure(axis: Axis, options: argparse.Namespace) -> list[dict[str, Any]]:
    device, precision = torch.device(options.device), options.precision
    works = {str(number): forward_pass(case, device, precision) for number, case in enumerate(axis.cases)}
    times = compare(works, rounds=options.rounds, warm_up=1, device=device)
    del works
    return [point(axis, case, row, options) for case, row in zip(axis.cases, times.values(), strict=True)]


def point(axis: Axis, case: Case, times: Times, options: argparse.Namespace) -> dict[str, Any]:
    device = torch.device(options.device)
    peak = grown_mib(
        forward_pass_alone,
        *(case, device, options.precision),
        device=device,
        threads=options.threads,
        processes=PROCESSES,
    )
    model = case.build()
    found = {
        "series": case.series,
        "at": axis.at(case),
        "model": case.model,
        "reduction": str(case.reduction or "none"),
        "input": [case.batch, *model.config.input_size],
        "tokens_first_and_last": [model.schedule.tokens[0], model.schedule.tokens[-1]],
        "gflops_exact": round(flops(model).total / 1e9, 4),
        **times,
        "grown_mib": peak,
    }
    print(f"  {found['at']:>10,} {axis.unit:16}{case.series:26}{times['median_ms']:10.1f} ms {peak} MiB", flush=True)
    return found


def fit(points: list[dict[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Exponents of time and memory of every series."""
    fitted = {}
    for series in dict.fromkeys(point["series"] for point in points):
        own = [point for point in points if point["series"] == series]
        places = [point["at"] for point in own]
        fitted[series] = {key: exponent(places, [point[key] for point in own]) for key in ("median_ms", "grown_mib")}
    return fitted


def against_two_blocks(axis: Axis, points: list[dict[str, Any]]) -> dict[str, float | None]:
    """The unreduced peak at the most tokens, in activations of two blocks."""
    case, largest = max(
        zip(axis.cases, points, strict=True), key=lambda pair: (pair[1]["at"], pair[0].reduction is None)
    )
    two_blocks_mib = 2 * block_activations_bytes(case.build().config, largest["at"]) / 2**20
    peak = largest["grown_mib"]
    return {
        "tokens": largest["at"],
        "grown_mib": peak,
        "two_blocks_mib": round(two_blocks_mib, 1),
        "multiple": None if peak is None else round(peak / two_blocks_mib, 3),
    }


def main() -> None:
    options = parse_arguments()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    refuse_if_red(operations_of_a_model(device))
    found = {}
    for axis in axes(options):
        print(f"\n{axis.name}, {options.precision}, {options.threads} threads")
        points = measure(axis, options)
        found[axis.name] = {"unit": axis.unit, "points": points, "exponents": fit(points)}
        for series, powers in found[axis.name]["exponents"].items():
            print(f"  {series}: time grows with the power {powers['median_ms']}, memory with {powers['grown_mib']}")
        if axis.name == "tokens":
            held = against_two_blocks(axis, points)
            print(f"  peak at {held['tokens']:,} tokens: {held['multiple']} times the activations of two blocks")
    plot = options.plot or ROOT / "docs" / ("growth_cuda.svg" if device.type == "cuda" else "growth.svg")
    draw(found, plot)
    save("growth", {"dtype": options.precision, "axes": found, "against_two_blocks": held}, device)


if __name__ == "__main__":
    main()
