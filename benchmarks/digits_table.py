"""Three reductions without any training on the digit model that ships with rmeeto, for r = 1 … 12.

Accuracy and mean cross-entropy on the 500 test digits; the loss varies less (one digit is 0.2 points of accuracy).
Prints a markdown table and writes benchmarks/results/digits_training_free.json.

    python benchmarks/digits_table.py
"""

import json
from pathlib import Path

import rmeeto
from rmeeto import TokenMerge
from rmeeto.evaluation import evaluate
from rmeeto.reduction import ReleasedMerge, TokenPrune

METHODS = {
    "merge": TokenMerge,  # the class token's true place is tracked
    "released": ReleasedMerge,  # the authors' program: the class token drifts
    "prune": TokenPrune,
}
LARGEST_R = 12
OUTPUT = Path(__file__).parent / "results/digits_training_free.json"


def score(model, reduction):
    model.reduction = reduction
    found = evaluate(model, "digits", workers=0)
    return {"top1_percent": found.top1_percent, "loss": found.loss}


def measure():
    model = rmeeto.create_model("vim_digits", pretrained=True)
    rows = [{"r": 0, "reduction_ratio": 0.0, **dict.fromkeys(METHODS, score(model, None))}]
    for r in range(1, LARGEST_R + 1):
        scores = {name: score(model, method(r=r)) for name, method in METHODS.items()}
        rows.append({"r": r, "reduction_ratio": model.schedule.ratio, **scores})
    return rows


def markdown(rows):
    columns = [f"{method.__name__}, top-1 % (loss)" for method in METHODS.values()]
    lines = [
        f"| r | reduction ratio | {' | '.join(columns)} |",
        "|--:|--:|" + "--:|" * len(METHODS),
    ]
    for row in rows:
        cells = [f"{row[name]['top1_percent']:.1f} ({row[name]['loss']:.3f})" for name in METHODS]
        lines.append(f"| {row['r']} | {row['reduction_ratio']:.3f} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    rows = measure()
    print(markdown(rows))
    OUTPUT.parent.mkdir(exist_ok=True)
    OUTPUT.write_text(json.dumps({"model": "vim_digits", "images": 500, "rows": rows}, indent=2) + "\n")
