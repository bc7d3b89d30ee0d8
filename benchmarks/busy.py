"""How long one image takes while other programs keep the same cores busy, as a multiple of the quiet time.

The neighbours are processes that only count; this program starts and ends them. The models are a frozen and an unfrozen
one, and as peers DeiT-S in PyTorch and, if `openvino` is installed, in OpenVINO. Every round runs every number of
neighbours, and for each every model in turn: one pass that is not counted, then some that are. The fair share is that
of a program whose threads run as long as the neighbours'.

Prints the multiples and writes benchmarks/results/busy.json. Let nothing else run meanwhile. No speed is reported if
the tests of the operations are red.

    python benchmarks/busy.py [--neighbours 1 2 4] [--rounds 5] [--passes 4] [--threads 2] [--no-peers]
"""

import argparse
import copy
import importlib.util
import statistics
import time

import torch

import rmeeto
from _neighbours import cores, fair_multiple, neighbours
from _timing import operations_of_a_model, refuse_if_red, save, summarise

REDUCTION = "merge:r=11"
PEER = "deit_small_patch16_224"
OPENVINO, PYTORCH = "DeiT-S in OpenVINO", "DeiT-S in PyTorch"
WARM_UP = 3
CALM_SECONDS = 0.02  # between two turns, so that the last one's threads stop spinning


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vim_small")
    parser.add_argument("--neighbours", nargs="+", type=int, default=[1, 2, 4], help="besides 0")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--passes", type=int, default=4, help="that count, in a turn")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-peers", dest="peers", action="store_false")
    asked = parser.parse_args()
    if asked.rounds * asked.passes < 2:
        parser.error("quartiles take at least two passes: more rounds or more passes")
    return asked


def our_models(name):
    """Our models as functions without arguments, by name."""
    model = rmeeto.create_model(name, reduction=REDUCTION).eval()
    images = torch.randn(1, *model.config.input_size)
    frozen = {dtype: rmeeto.freeze(copy.deepcopy(model).to(dtype)) for dtype in (torch.float32, torch.bfloat16)}
    return {
        "frozen, float32": lambda: frozen[torch.float32](images),
        "frozen, bfloat16": lambda: frozen[torch.bfloat16](images.bfloat16()),
        "not frozen, float32": lambda: model(images),
    }


def peers(threads):
    """DeiT-S in PyTorch and OpenVINO, in float32."""
    import timm

    model, images = timm.create_model(PEER).eval(), torch.randn(1, 3, 224, 224)
    found = {PYTORCH: lambda: model(images)}
    if importlib.util.find_spec("openvino") is None:
        print(f"left out: {OPENVINO} (openvino is not installed)")
        return found
    import openvino

    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(openvino.convert_model(model, example_input=images), "CPU", settings)
    array = images.numpy()
    return found | {OPENVINO: lambda: compiled(array)}


def turn(run, passes):
    """Milliseconds of some passes in a row, after one that is not counted."""
    time.sleep(CALM_SECONDS)
    run()
    times = []
    for _ in range(passes):
        start = time.perf_counter()
        run()
        times.append(1e3 * (time.perf_counter() - start))
    return times


def measure(candidates, counts, rounds, passes):
    """Milliseconds of each candidate with each number of neighbours."""
    times = {name: {count: [] for count in counts} for name in candidates}
    for run in candidates.values():
        for _ in range(WARM_UP):
            run()
    for _ in range(rounds):
        for count in counts:
            with neighbours(count):
                for name, run in candidates.items():
                    times[name][count].extend(turn(run, passes))
    return times


def report(times, threads):
    """Each candidate's multiple with each number of neighbours, beside the fair share."""
    rows = []
    for name, by_count in times.items():
        quiet = statistics.median(by_count[0])
        for count, values in by_count.items():
            multiple = statistics.median(values) / quiet
            rows.append(
                {
                    "what": name,
                    "neighbours": count,
                    **summarise(values, WARM_UP),
                    "worst_ms": round(max(values), 4),
                    "multiple": round(multiple, 2),
                    "fair_multiple": fair_multiple(threads, count, cores()),
                }
            )
    return rows


def print_rows(rows):
    print(f"\n{'':24}{'neighbours':>10}{'median':>10}{'quartiles':>19}{'worst':>10}{'multiple':>10}{'fair':>7}")
    for row in rows:
        quartiles = f"{row['lower_quartile_ms']:.0f} … {row['upper_quartile_ms']:.0f}"
        print(
            f"{row['what']:24}{row['neighbours']:10}{row['median_ms']:10.1f}{quartiles:>19}{row['worst_ms']:10.0f}"
            f"{row['multiple']:10.2f}{row['fair_multiple']:7.2f}"
        )


def main():
    asked = parse_arguments()
    torch.set_num_threads(asked.threads)
    refuse_if_red(operations_of_a_model(torch.device("cpu")))
    rmeeto.keep_freed_memory()
    candidates = our_models(asked.model) | (peers(asked.threads) if asked.peers else {})
    counts = sorted({0, *asked.neighbours})
    with torch.inference_mode():
        times = measure(candidates, counts, asked.rounds, asked.passes)
    rows = report(times, asked.threads)
    print_rows(rows)
    save("busy", {"model": asked.model, "reduction": REDUCTION, "batch": 1, "cores": cores(), "rows": rows})


if __name__ == "__main__":
    main()
