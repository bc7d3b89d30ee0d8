"""Models of real size in other runtimes: exported and checked, then timed: benchmarks/results/export.json.

Weights are random. Both steps take the cases that have no result yet, or those that are named. Exporting keeps its
folders, which timing reads; let nothing else run while it does. Needs the extra `export`.

    python benchmarks/export_table.py export FOLDER [--format pt2] [--cases 'vim_tiny default']
    python benchmarks/export_table.py time FOLDER [--minutes 4]
    python benchmarks/export_table.py print
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

import rmeeto
from _timing import RESULTS, describe_machine
from rmeeto.errors import RmeetoError
from rmeeto.exporting.parity import ParityError

FILE = RESULTS / "export.json"
MODELS = {
    "vim_tiny": ("vim_tiny", {}, "merge:r=5"),
    "vim_small": ("vim_small", {}, "merge:r=11"),
    "videomamba_tiny": ("videomamba_tiny", {}, "merge:r=5"),
    "deit_tiny": ("deit_tiny_patch16_224", {}, "merge:r=8,features=K,blocks=all"),
    "videomamba_tiny_8": ("videomamba_tiny", {"frames": 8}, "merge:r=40"),
}
OTHERS = {"none": None, "stm": "stm:r=5", "window": "merge:r=5,window=1"}
CASES = {
    f"{name} {kind}": (model, options, line if kind == "default" else OTHERS[kind])
    for kind in ("default", *OTHERS)
    for name, (model, options, line) in MODELS.items()
}
ONE_RUNTIME = Path(__file__).with_name("_one_runtime.py")
WAYS = {"onnxruntime": "onnx", "openvino": "onnx", "torch": "pt2"}  # and the format that each takes
ROUNDS = 3


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("export", "time", "print"))
    parser.add_argument("folder", nargs="?", type=Path, help="where the exported folders are kept")
    parser.add_argument("--cases", nargs="+", choices=CASES, metavar="CASE", help=f"of {', '.join(CASES)}")
    parser.add_argument("--format", default="onnx")
    parser.add_argument("--images", type=int, default=1, help="real ones in the check")
    parser.add_argument("--minutes", type=float, default=60.0, help="begin no case after this time")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def built(case):
    """The model of a case, with random weights that are the same each time."""
    model, options, line = case
    torch.manual_seed(0)
    return rmeeto.create_model(model, reduction=line, **options).eval()


def exported(case, kind, images, folder):
    """The report on one case as plain values; the folder stays."""
    model = built(case)
    shutil.rmtree(folder, ignore_errors=True)
    start = time.perf_counter()
    try:
        parity = rmeeto.export(model, folder, format=kind, count=images, name=case[0]).parity
    except ParityError as error:
        parity = error.parity
    except RmeetoError as error:
        return {"model": case[0], "options": case[1], "line": case[2], "error": str(error)}
    return {
        **parity.to_dict(),
        "options": case[1],
        "line": case[2],
        "weights_megabytes": sum(parameter.numel() for parameter in model.parameters()) * 4 / 1e6,
        "export_seconds": time.perf_counter() - start,
    }


def timed(name, kind, folder, threads):
    """Load times in seconds and milliseconds for one input, of the frozen model and in each runtime.

    Each is timed in a process of its own, because threads of one runtime that wait for its next call disturb another.
    """
    files = {"onnx": ["model.onnx"], "pt2": ["model.pt2", "plain.pt2"]}[kind]
    ways = [("frozen", name), *((way, str(folder / file)) for way, of in WAYS.items() if of == kind for file in files)]
    found = {label(*way): [] for way in ways}
    for _ in range(ROUNDS):
        for way in ways:
            command = [sys.executable, str(ONE_RUNTIME), *way, "--threads", str(threads)]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found[label(*way)].append(json.loads(output.splitlines()[-1]))
    return {way: summary(rounds) for way, rounds in found.items()}


def label(way, file):
    """The name of a way of running, as the report on an export has it."""
    if way == "torch":
        return {"model.pt2": "PyTorch with rmeeto, float32", "plain.pt2": "PyTorch alone, float32"}[Path(file).name]
    return {"onnxruntime": "ONNX Runtime, float32", "openvino": "OpenVINO, float32"}.get(way, way)


def summary(rounds):
    """Medians of loading and of all calls, and the range of these."""
    calls = [1e3 * seconds for one in rounds for seconds in one["seconds"]]
    return {
        "load_seconds": statistics.median(one["load_seconds"] for one in rounds),
        "median_ms": statistics.median(calls),
        "least_ms": min(calls),
        "most_ms": max(calls),
    }


def print_results(results):
    print("| model | reduction | runtime | MB | load s | ms | frozen ms | times | plans equal | worst logit |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name, found in results.items():
        for row in found.get("rows", []):
            times = found.get("times", {})
            own, frozen = times.get(f"{row['runtime']}, {row['precision']}"), times.get("frozen")
            speed = "– | – | – | –"
            if own:
                ratio = own["median_ms"] / frozen["median_ms"]
                speed = f"{own['load_seconds']:.1f} | {own['median_ms']:.1f} | {frozen['median_ms']:.1f} | {ratio:.1f}"
            worst = "–" if row["worst_logit"] is None else f"{row['worst_logit']:.0e}"
            case = f"{name.split()[1]} | {found['line'] or 'none'} | {row['runtime']}, {row['precision']}"
            print(f"| {case} | {row['megabytes']:.1f} | {speed} | {row['plans_equal']} of {row['inputs']} | {worst} |")


def main():
    asked, began = parse_arguments(), time.monotonic()
    torch.set_num_threads(asked.threads)
    rmeeto.keep_freed_memory()
    results = json.loads(FILE.read_text()) if FILE.exists() else {}
    if asked.step == "print":
        print_results(results)
        return
    for name, case in CASES.items():
        key, folder = f"{asked.format} {name}", asked.folder / asked.format / name.replace(" ", "_")
        has_it = key in results if asked.step == "export" else "times" in results.get(key, {"times": None})
        if name not in asked.cases if asked.cases else has_it:
            continue
        if time.monotonic() - began > 60 * asked.minutes:
            print("the time is over")
            break
        if asked.step == "export":
            results[key] = exported(case, asked.format, asked.images, folder)
            seconds = results[key].get("export_seconds", 0)
            print(key, results[key].get("error") or f"passed: {results[key]['passed']}, {seconds:.0f} s", flush=True)
        else:
            times = timed(name, asked.format, folder, asked.threads)
            results[key]["times"] = {**times, "threads": asked.threads, "machine": describe_machine()}
            print(key, {way: round(row["median_ms"], 1) for way, row in times.items()}, flush=True)
        FILE.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
