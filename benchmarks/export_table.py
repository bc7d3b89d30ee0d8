"""Models of real size, exported, checked and timed in every runtime: benchmarks/results/export.json.

Weights are random. A case that has been measured is measured again if it is named; --missing takes the others, until
the time is over. Needs the extra `export`. Let nothing else run meanwhile.

    python benchmarks/export_table.py --cases 'vim_tiny default'
    python benchmarks/export_table.py --missing --minutes 4 [--format pt2]
"""

import argparse
import json
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import torch

import rmeeto
from _timing import RESULTS
from rmeeto.errors import RmeetoError
from rmeeto.exporting.parity import ParityError
from rmeeto.reduction import parse_reduction

FILE = RESULTS / "export.json"
MODELS = {
    "vim_tiny": ("vim_tiny", {}, "merge:r=5"),
    "vim_small": ("vim_small", {}, "merge:r=11"),
    "videomamba_tiny": ("videomamba_tiny", {}, "merge:r=5"),
    "deit_tiny": ("deit_tiny_patch16_224", {}, "merge:r=8,features=K,blocks=all"),
    "videomamba_tiny_8": ("videomamba_tiny", {"frames": 8}, "merge:r=40"),
}
OTHERS = {"none": None, "stm": "stm:r=5", "window": "merge:r=5,window=1"}


def cases():
    """Every case by name: a model, its options, and the line of its reduction."""
    for kind in ("default", *OTHERS):
        for name, (model, options, line) in MODELS.items():
            yield f"{name} {kind}", (model, options, line if kind == "default" else OTHERS[kind])


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=[], help=f"of {', '.join(name for name, _ in cases())}")
    parser.add_argument("--missing", action="store_true", help="all that have no result yet")
    parser.add_argument("--minutes", type=float, default=4.0, help="start no case after this time")
    parser.add_argument("--format", default="onnx")
    parser.add_argument("--images", type=int, default=1, help="real ones in the check")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def measured(case, kind, images):
    """The report on one case as plain values."""
    model, options, line = case
    torch.manual_seed(0)
    network = rmeeto.create_model(model, reduction=line, **options)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        try:
            parity = rmeeto.export(network, Path(scratch) / "out", format=kind, count=images, name=model).parity
        except ParityError as error:
            parity = error.parity
        except RmeetoError as error:
            return {"model": model, "options": options, "reduction": line, "error": str(error)}
    return {
        **parity.to_dict(),
        "options": options,
        "line": None if line is None else str(parse_reduction(line)),
        "weights_megabytes": parameters * 4 / 1e6,
        "export_seconds": time.perf_counter() - start,
        "tokens_at_end": network.schedule.tokens[-1],
        "sizes": {name: value for name, value in asdict(network.config).items() if name in ("dim", "depth")},
    }


def main():
    asked, began = parse_arguments(), time.monotonic()
    torch.set_num_threads(asked.threads)
    rmeeto.keep_freed_memory()
    results = json.loads(FILE.read_text()) if FILE.exists() else {}
    every = dict(cases())
    wanted = [*asked.cases]
    if asked.missing:
        wanted += [name for name in every if f"{asked.format} {name}" not in results and name not in wanted]
    for name in wanted:
        if time.monotonic() - began > 60 * asked.minutes:
            print("the time is over: run again with --missing")
            break
        found = measured(every[name], asked.format, asked.images)
        results[f"{asked.format} {name}"] = found
        FILE.write_text(json.dumps(results, indent=1) + "\n")
        print(name, "passed" if found.get("passed") else found.get("error", "FAILED"))
        for row in found.get("rows", []):
            print(
                "   ",
                row["runtime"],
                row["precision"],
                f"{row['ms_per_input']:.1f} ms",
                row["plans_equal"],
                row["inputs"],
            )


if __name__ == "__main__":
    main()
