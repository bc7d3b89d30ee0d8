"""One reduction step against the number of tokens, and its share of a VideoMamba forward, exact and local matching.

    python benchmarks/reduction.py [--frames 8 16 32 64] [--windows 1] [--near 0 1] [--rounds 9] [--threads 2]

A clip of 8 frames has 1,569 tokens and loses 88 of them at a step; longer clips lose as large a part. Time is the
median over rounds in which every candidate has its turn; memory is what the peak of a fresh process grows by; the
exponents are fitted to both over the tokens, 1 for linear. Share: of a whole forward pass with eleven such steps.
windows: matching within so many places of the sequence; near: within so many frames on either side.
No figure is reported if local matching over everything disagrees with exact matching.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

import rmeeto
from _timing import compare, print_table, save
from rmeeto import TokenMerge
from rmeeto.reduction.match import match
from rmeeto.reduction.protocol import Step
from rmeeto.reduction.tokens import Tokens
from rmeeto.speed.timing import Stopwatch, reduction_share

MODEL = "videomamba_tiny_video"
WIDTH, PATCHES_PER_FRAME, REMOVED_PER_FRAME = 192, 196, 11
EXACT = "exact"
STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", nargs="+", type=int, default=[8, 16, 32, 64])
    parser.add_argument("--windows", nargs="+", type=int, default=[1])
    parser.add_argument("--near", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def tokens_of(frames: int) -> Tokens:
    """Noise in the shape of a clip's tokens, the class token first."""
    x, residual = torch.randn(2, 1, frames * PATCHES_PER_FRAME + 1, WIDTH).unbind()
    return Tokens(x, residual, torch.zeros(1, 1, dtype=torch.int64))


def methods(frames: int, windows: list[int], near: list[int]) -> dict[str, TokenMerge]:
    r = frames * REMOVED_PER_FRAME
    in_windows = {f"window={w}": TokenMerge(r=r, window=w) for w in windows}
    return {EXACT: TokenMerge(r=r)} | in_windows | {f"frames={n}": TokenMerge(r=r, frames=n) for n in near}


def run(method: TokenMerge, tokens: Tokens) -> Tokens:
    with torch.inference_mode():
        return method.step(tokens, None, Step(method.r, 2, 24, time=tokens.length // PATCHES_PER_FRAME))


def grown_mib(method: TokenMerge, frames: int, threads: int) -> float | None:
    """MiB that one step adds to the peak of this process, which must be fresh; None if not reported."""
    torch.set_num_threads(threads)
    run(replace(method, r=1), tokens_of(1))
    tokens = tokens_of(frames)
    if not RESET.exists():
        return None
    RESET.write_text("5")  # the peak is from now on
    before = peak_mib()
    run(method, tokens)
    return round(peak_mib() - before, 1)


def peak_mib() -> float:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def in_fresh_process(task, *arguments):
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(task, *arguments).result()


def share_of_forward(method: TokenMerge, frames: int) -> float:
    model = rmeeto.create_model(MODEL, frames=frames, reduction=method).eval()
    clips = torch.randn(1, model.config.in_chans, frames, *model.config.img_size)
    with torch.inference_mode():
        model(clips)
        return reduction_share(model, clips, Stopwatch(torch.device("cpu")))


def exponent(tokens: list[int], values: list[float | None]) -> float | None:
    """The exponent with which the values grow with the tokens; None if some are unknown or too small to measure."""
    if len(tokens) < 2 or not all(values):
        return None
    return round(statistics.linear_regression(list(map(math.log, tokens)), list(map(math.log, values))).slope, 2)


def matching_is_right() -> bool:
    features, protected = torch.randn(2, 301, 48), torch.tensor([[0], [150]])
    everything = torch.zeros(2, 150, dtype=torch.int64), torch.full((2, 150), 150)
    exact = match(features, protected, 60)
    local = match(features, protected, 60, window=301), match(features, protected, 60, seen=everything)
    return all(torch.equal(exact.source, x.source) and torch.equal(exact.target, x.target) for x in local)


def main() -> None:
    options = parse_arguments()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    if not matching_is_right():
        sys.exit("local matching over everything is not exact matching: no figure is reported")
    rows = []
    for frames in options.frames:
        tokens, chosen = tokens_of(frames), methods(frames, options.windows, options.near)
        times = compare({name: partial(run, method, tokens) for name, method in chosen.items()}, rounds=options.rounds)
        print_table(f"one step, {tokens.length:,} tokens, {options.threads} threads", times, against=EXACT)
        for name, method in chosen.items():
            memory = in_fresh_process(grown_mib, method, frames, options.threads)
            share = share_of_forward(method, frames)
            print(f"  {name:34}{memory} MiB, {share:.1%} of a forward pass", flush=True)
            rows.append(
                {
                    "tokens": tokens.length,
                    "matching": name,
                    **times[name],
                    "grown_mib": memory,
                    "share_of_forward": round(share, 4),
                }
            )
    growth = {}
    for name in methods(1, options.windows, options.near):
        own = [row for row in rows if row["matching"] == name]
        lengths = [row["tokens"] for row in own]
        growth[name] = {key: exponent(lengths, [row[key] for row in own]) for key in ("median_ms", "grown_mib")}
        print(f"{name}: time grows with tokens^{growth[name]['median_ms']}, memory with ^{growth[name]['grown_mib']}")
    save("reduction", {"model": MODEL, "rows": rows, "exponents": growth})


if __name__ == "__main__":
    main()
