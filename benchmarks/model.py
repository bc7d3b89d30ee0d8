"""Throughput, latency and memory of whole models, unreduced and reduced at several rates.

Prints the verdicts and writes benchmarks/results/model_DEVICE.json. Let nothing else run meanwhile.

    python benchmarks/model.py [--models vim_tiny vim_small] [--batches 1 8] [--rates 5 11 20]
"""

import argparse
import json
from pathlib import Path

import rmeeto
from rmeeto import TokenMerge
from rmeeto.bench import bench, verdict

RESULTS = Path(__file__).parent / "results"


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["vim_tiny", "vim_small"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--rates", nargs="+", type=int, default=[5, 11, 20])
    parser.add_argument("--precisions", nargs="+", default=["float32"])
    parser.add_argument("--seconds", type=float, default=60.0, help="per model, batch size and precision")
    return parser.parse_args()


def main():
    asked = parse_arguments()
    reports = []
    for name in asked.models:
        report = bench(
            rmeeto.create_model(name),
            [TokenMerge(r=r) for r in asked.rates],
            name=name,
            batches=asked.batches,
            precisions=asked.precisions,
            budget_seconds=asked.seconds,
        )
        reports.append(report.to_dict())
        for setting in report.settings():
            for measured in setting[1:]:
                conclusion = verdict(measured, setting)
                print(f"{name}, batch {measured.batch}, {measured.precision}, {measured.reduction}: {conclusion}")
    path = RESULTS / f"model_{report.device.replace(':', '')}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(reports, indent=2) + "\n")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
