"""Throughput, latency and memory of whole models, unreduced and reduced at several rates.

Prints the verdicts and writes benchmarks/results/model_DEVICE.json. Let nothing else run meanwhile. No speed is
reported if the tests of the operations are red.

    python benchmarks/model.py [--models vim_tiny vim_small] [--batches 1 8] [--rates 5 11 20] [--precisions float32]
    python benchmarks/model.py --device cuda --models vim_small --batches 128 --precisions bfloat16 --running recorded
"""

import argparse

import torch

import rmeeto
from _timing import operations_of_a_model, refuse_if_red, save
from rmeeto import TokenMerge
from rmeeto.speed import bench, verdict

WARM_UP = 3


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--models", nargs="+", default=["vim_tiny", "vim_small"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--rates", nargs="+", type=int, default=[5, 11, 20])
    parser.add_argument("--precisions", nargs="+", default=["float32"])
    parser.add_argument("--running", choices=["eager", "compiled", "recorded"], default="eager")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60.0, help="per model, batch size and precision")
    return parser.parse_args()


def main():
    asked = parse_arguments()
    torch.set_num_threads(asked.threads)
    device = torch.device(asked.device)
    refuse_if_red(operations_of_a_model(device))
    rmeeto.keep_freed_memory()
    reports = []
    for name in asked.models:
        model = rmeeto.create_model(name)
        report = bench(
            model,
            [TokenMerge(r=r) for r in asked.rates],
            name=name,
            batches=asked.batches,
            precisions=asked.precisions,
            running=asked.running,
            device=asked.device,
            warmup=WARM_UP,
            rounds=asked.rounds,
            budget_seconds=asked.seconds,
        )
        reports.append({"input": model.config.input_size, "warm_up": WARM_UP, **report.to_dict()})
        for setting in report.settings():
            for measured in setting[1:]:
                conclusion = verdict(measured, setting)
                print(f"{name}, batch {measured.batch}, {measured.precision}, {measured.reduction}: {conclusion}")
    kind = "" if asked.running == "eager" else f"_{asked.running}"
    save(f"model{kind}" if device.type == "cuda" else f"model_cpu{kind}", {"reports": reports}, device)


if __name__ == "__main__":
    main()
