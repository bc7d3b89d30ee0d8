"""Every reduction method under one protocol: accuracy training-free and re-trained, same schedule cost, several seeds.

    python benchmarks/methods_table.py --data FOLDER [--seeds 0 1 2] [--ratios 0.14 0.31 0.54] [--output runs/methods]

For each seed a small Vim is trained from scratch on the images; every method then reduces it to each ratio at the same
blocks and is re-trained by the same recipe. Finished results stay in the output folder: run again to continue, or in
several processes with different `--seeds`. The table goes to benchmarks/results/methods.json and to the terminal, as
Markdown: mean top-1 over the seeds, and by how much it differs from the same seed's unreduced model (mean ± standard
deviation: seeds differ more in their models than in what a method costs them). Re-trained models are compared with the
unreduced one re-trained by the same recipe, which gains by it too.
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
from rmeeto import TokenMerge, create_model, flops, retrain
from rmeeto.cost import stack_of
from rmeeto.data import open_data
from rmeeto.errors import ConfigError
from rmeeto.evaluation import evaluate
from rmeeto.models.vim.backbone import VisionMamba
from rmeeto.recipe import Recipe
from rmeeto.reduction import parse_reduction
from rmeeto.runtime.progress import SILENT

# Every method at the paper's blocks (every second one) unless its name says otherwise, with its authors' choices.
LINES = {
    "merge": "merge:ratio={ratio}",
    "merge, window 1": "merge:ratio={ratio},window=1",
    "merge, every block": "merge:ratio={ratio},blocks=all",
    "STM, every block": "stm:ratio={ratio},blocks=all",
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
    print_markdown(rows)
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
    again = base.changed(
        model=base.output,
        model_options={},
        epochs=options.again,
        subset=options.again_subset,
        lr=5e-4,
        warmup_steps=0,
        output=str(folder / "unreduced-again"),
    )
    more = retrain(again, resume=True, progress=SILENT).rows[-1].top1_percent if options.again else None
    print(f"seed {seed}, unreduced: {whole.top1_percent}, re-trained {more}", file=sys.stderr, flush=True)
    yield {"method": "unreduced", "ratio": 0.0, "training_free": whole.top1_percent, "retrained": more}
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
            recipe = again.changed(reduction=line, output=str(folder / f"{name.replace(' ', '-')}-{ratio}"))
            _, reduced, retrained = retrain(recipe, resume=True, progress=SILENT).rows
            found = {"training_free": reduced.top1_percent, "retrained": retrained.top1_percent}
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
    """The constant r whose reduction ratio comes closest, because the released method takes no ratio."""
    most = model.config.tokens // 2
    return min(range(1, most), key=lambda r: abs(TokenMerge(r=r).schedule(stack_of(model.config)).ratio - ratio))


def summary(rows: Sequence[dict[str, Any]]) -> dict[tuple[str, float], dict[str, str]]:
    """Accuracy and difference from the same seed's unreduced model, over the seeds, by method and ratio."""
    unreduced = {row["seed"]: row for row in rows if row["method"] == "unreduced"}
    together: dict[tuple[str, float], list[dict[str, Any]]] = {}
    for row in rows:
        together.setdefault((row["method"], row["ratio"]), []).append(row)
    return {
        key: {
            kind: cell([(row[kind], unreduced[row["seed"]][kind]) for row in found if row[kind] is not None])
            for kind in ("training_free", "retrained")
        }
        for key, found in together.items()
    }


def cell(pairs: Sequence[tuple[float, float]]) -> str:
    """Mean of top-1 accuracies, each paired with its unreduced model's, and mean ± deviation of the differences."""
    if not pairs:
        return "—"
    differences = [value - whole for value, whole in pairs]
    deviation = f" ± {statistics.stdev(differences):.1f}" if len(pairs) > 1 else ""
    return f"{statistics.mean(value for value, _ in pairs):.1f} ({statistics.mean(differences):+.1f}{deviation})"


def print_markdown(rows: Sequence[dict[str, Any]]) -> None:
    """One line per method, two columns per ratio."""
    found = summary(rows)
    for kind in ("training_free", "retrained"):
        whole = [row[kind] for row in rows if row["method"] == "unreduced" and row[kind] is not None]
        if whole:
            print(f"unreduced, {kind}: {statistics.mean(whole):.1f} % ({', '.join(f'{value:.1f}' for value in whole)})")
    ratios = sorted({ratio for _, ratio in found if ratio})
    print("\n| method |" + "".join(f" {ratio} free | {ratio} re-trained |" for ratio in ratios))
    print("|---|" + "---|---|" * len(ratios))
    for method in dict.fromkeys(name for name, ratio in found if ratio):
        cells = [found[(method, ratio)] for ratio in ratios]
        print(f"| {method} |" + "".join(f" {one['training_free']} | {one['retrained']} |" for one in cells))


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
