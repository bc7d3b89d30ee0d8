"""Vim-S, unreduced and merged, against DeiT-S in PyTorch, ONNX Runtime and OpenVINO, over image sizes.

    python benchmarks/against.py [--sizes 224 384 512 768] [--batches 1] [--precisions float32 bfloat16] [--threads 2]
                                 [--ratio 0.31] [--rounds 20] [--seconds 30] [--plot FILE.svg] [--redraw]

What `rmeeto bench vim_small --against deit_small` measures, drawn for the documents and stored with every round.
`--redraw` draws the stored figures again and measures nothing.
ONNX Runtime and OpenVINO come with `pip install -e ".[engines]"`; without them their rows say so.
No figure is reported if the operations' tests are red.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import fields
from pathlib import Path

import torch
from matplotlib import rc_context

from _timing import CPU, RESULTS, ROOT, operations_of_a_model, refuse_if_red, save
from rmeeto import TokenMerge, keep_freed_memory
from rmeeto.report.against import STYLE, against_figure
from rmeeto.runtime.doctor import Machine
from rmeeto.speed import AgainstReport, Timing, bench_against


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vim_small")
    parser.add_argument("--rival", default="deit_small")
    parser.add_argument("--sizes", nargs="+", type=int, default=[224, 384, 512, 768])
    parser.add_argument("--batches", nargs="+", type=int, default=[1])
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--ratio", type=float, default=0.31)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=30.0, help="stop a setting's rounds, after the fifth")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--plot", type=Path, default=ROOT / "docs/against.svg")
    parser.add_argument("--redraw", action="store_true", help="draw what is stored, and measure nothing")
    return parser.parse_args()


def stored(path: Path) -> AgainstReport:
    """The report in a file of results, without which way our model went."""
    content = json.loads(path.read_text())
    known = {field.name for field in fields(Timing)} - {"way"}
    timings = tuple(Timing(**{key: row[key] for key in known}) for row in content["timings"])
    own = {field.name: content[field.name] for field in fields(AgainstReport)}
    return AgainstReport(**{**own, "machine": Machine(**content["machine"]), "timings": timings})


def draw(report: AgainstReport, path: Path) -> None:
    with rc_context(STYLE):
        against_figure(report).savefig(path, format="svg", metadata={"Date": None})


def main() -> None:
    options = parse_arguments()
    if options.redraw:
        draw(stored(RESULTS / "against.json"), options.plot)
        return
    torch.set_num_threads(options.threads)
    refuse_if_red(operations_of_a_model(CPU))
    keep_freed_memory()
    report = bench_against(
        options.model,
        [TokenMerge(ratio=options.ratio)],
        options.rival,
        sizes=options.sizes,
        batches=options.batches,
        precisions=options.precisions,
        rounds=options.rounds,
        budget_seconds=options.seconds,
    )
    for setting in report.settings():
        for sentence in report.sentences(setting):
            print(f"{setting[1]}, batch {setting[0]}: {sentence}", flush=True)
    draw(report, options.plot)
    save("against", report.to_dict())


if __name__ == "__main__":
    main()
