"""Every reduction method under one protocol: accuracy training-free and re-trained, same schedule cost, several seeds.

    python benchmarks/methods_table.py --data FOLDER [--seeds 0 1 2] [--ratios 0.14 0.31 0.54] [--output runs/methods]

For each seed a small Vim is trained from scratch on the images; every method then reduces it to each ratio at the same
blocks and is re-trained by the same recipe. Whatever was finished stays in the output folder: run again to go on, or in
several processes with different `--seeds`. The table (mean ± standard deviation over seeds) goes to
benchmarks/results/methods.json and to the terminal, as Markdown.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from _timing import save
from rmeeto import Recipe, TokenMerge, VisionMamba, create_model, flops, parse_reduction, retrain
from rmeeto.cost import stack_of
from rmeeto.data import open_data
from rmeeto.errors import ConfigError
from rmeeto.evaluate import evaluate
from rmeeto.progress import SILENT

# Every method at the paper's blocks (every second one), with its authors' choices otherwise.
LINES = {
    "merge": "merge:ratio={ratio}",
    "merge, window 1": "merge:ratio={ratio},window=1",
    "merge, stretch 0.5": "merge:ratio={ratio},stretch=0.5",
    "merge, as released": "released:r={r}",
    "merge at random": "random-merge:ratio={ratio}",
    "prune": "prune:ratio={ratio}",
    "prune at random": "random-prune:ratio={ratio}",
    "Token Recognition (EViT)": "evit:ratio={ratio}",
    "Token Recognition, fused": "evit:ratio={ratio},fused=True",
    "Hidden State Alignment": "hsa:ratio={ratio}",
    "HSA, not aligned": "hsa:ratio={ratio},alignment=none",
    "MTR": "mtr:ratio={ratio}",
    "UTR": "utr:ratio={ratio}",
    "STM": "stm:ratio={ratio}",
    "PiToMe": "pitome:ratio={ratio}",
    "ToFu": "tofu:ratio={ratio}",
    "Famba-V": "famba:ratio={ratio}",
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Every reduction method under one protocol.")
    parser.add_argument("--data", required=True, help="a folder with train/CLASS/ and val/CLASS/")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--ratios", nargs="+", type=float, default=[0.14, 0.31, 0.54])
    parser.add_argument("--methods", nargs="+", choices=LINES, default=list(LINES), metavar="METHOD")
    parser.add_argument("--output", type=Path, default=Path("runs/methods"))
    parser.add_argument("--depth", type=int, default=12, help="blocks; 8 of them reach no ratio beyond 0.52")
    parser.add_argument("--subset", type=float, default=1.0, help="share of the training images")
    parser.add_argument("--epochs", type=int, default=6, help="from scratch")
    parser.add_argument("--again", type=int, default=1, help="epochs of re-training; 0 for training-free figures alone")
    parser.add_argument("--again-subset", type=float, default=1.0, help="share of the training images to re-train on")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    rows = [{"seed": seed, **row} for seed in options.seeds for row in one_seed(options, seed)]
    found = summary(rows)
    print_markdown(found)
    save("methods", {"options": {**vars(options), "output": None, "data": Path(options.data).name}, "rows": rows})


def one_seed(options: argparse.Namespace, seed: int) -> Iterator[dict[str, object]]:
    """Train from scratch, then every method at every ratio."""
    folder = options.output / f"seed{seed}"
    base = Recipe(
        model="vim_tiny",
        weights=None,
        model_options=SIZES | {"depth": options.depth},
        data=options.data,
        epochs=options.epochs,
        subset=options.subset,
        lr=2e-3,
        warmup_steps=100,
        seed=seed,
        workers=options.workers,
        output=str(folder / "unreduced"),
        **PLAIN,
    )
    whole = retrain(base, resume=True, progress=SILENT).rows[-1]
    yield {"method": "unreduced", "ratio": 0.0, "training_free": whole.top1_percent, "retrained": whole.top1_percent}
    source = open_data(options.data, "val")
    model = create_model(base.output)
    for ratio, name in product(options.ratios, options.methods):
        line = LINES[name].format(ratio=ratio, r=constant_r(model, ratio))
        try:
            model.reduction = parse_reduction(line)
        except ConfigError as error:
            print(f"seed {seed}, {line}: {error.why}", file=sys.stderr, flush=True)
            yield {"method": name, "ratio": ratio, "line": line, "training_free": None, "retrained": None}
            continue
        if options.again:
            recipe = base.changed(
                model=base.output,
                model_options={},
                reduction=line,
                epochs=options.again,
                subset=options.again_subset,
                lr=5e-4,
                warmup_steps=0,
                output=str(folder / f"{name.replace(' ', '-')}-{ratio}"),
            )
            _, reduced, again = retrain(recipe, resume=True, progress=SILENT).rows
            found = {"training_free": reduced.top1_percent, "retrained": again.top1_percent}
        else:
            scored = evaluate(model, source, workers=options.workers, progress=SILENT)
            found = {"training_free": scored.top1_percent, "retrained": None}
        print(f"seed {seed}, {line}: {found}", file=sys.stderr, flush=True)
        yield {
            "method": name,
            "ratio": ratio,
            "line": line,
            "reduction_ratio": model.schedule.ratio,
            "gflops_exact": flops(model).total / 1e9,
            **found,
        }


def constant_r(model: VisionMamba, ratio: float) -> int:
    """The constant r whose reduction ratio comes closest: the released program knows no other way to say it."""
    most = model.config.tokens // 2
    return min(range(1, most), key=lambda r: abs(TokenMerge(r=r).schedule(stack_of(model.config)).ratio - ratio))


def summary(rows: Sequence[dict[str, Any]]) -> dict[tuple[str, float], dict[str, str]]:
    """Mean ± standard deviation over the seeds, by method and ratio."""
    together: dict[tuple[str, float], list[dict[str, Any]]] = {}
    for row in rows:
        together.setdefault((row["method"], row["ratio"]), []).append(row)
    return {
        key: {kind: spread([row[kind] for row in found]) for kind in ("training_free", "retrained")}
        for key, found in together.items()
    }


def spread(values: Sequence[float | None]) -> str:
    """Mean and standard deviation of top-1 accuracies."""
    known = [value for value in values if value is not None]
    if not known:
        return "—"
    return f"{statistics.mean(known):.1f}" + (f" ± {statistics.stdev(known):.1f}" if len(known) > 1 else "")


def print_markdown(found: dict[tuple[str, float], dict[str, str]]) -> None:
    """One line per method, two columns per ratio."""
    ratios = sorted({ratio for _, ratio in found if ratio})
    print(f"unreduced: {found[('unreduced', 0.0)]['training_free']} %\n")
    print("| method |" + "".join(f" {ratio} free | {ratio} re-trained |" for ratio in ratios))
    print("|---|" + "---|---|" * len(ratios))
    for method in dict.fromkeys(name for name, ratio in found if ratio):
        cells = [found[(method, ratio)] for ratio in ratios]
        print(f"| {method} |" + "".join(f" {cell['training_free']} | {cell['retrained']} |" for cell in cells))


SIZES = {"img_size": (32, 32), "patch_size": 4, "stride": 4, "dim": 48}
PLAIN = {
    "label_smoothing": 0.1,
    "mixup": 0.0,
    "cutmix": 0.0,
    "auto_augment": "none",
    "random_erasing": 0.0,
    "color_jitter": 0.2,
    "batch_size": 64,
    "min_lr": 1e-5,
}

if __name__ == "__main__":
    main()
