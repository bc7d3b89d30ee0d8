"""Run many cases of bad input: ``PYTHONPATH=tests python -m fuzz --cases 100000 --processes 2``.

Prints one JSON object: cases by kind and ending, the slowest case, the largest memory, and every case that ended in
anything but success or one of our errors. ``--only NUMBER`` repeats one case with its traceback.
"""

import argparse
import json
import multiprocessing
import sys
import time
from collections import Counter

from fuzz.cases import kind_of, run_case
from fuzz.share import run_share


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--only", type=int)
    options = parser.parse_args()
    if options.only is not None:
        kind, _ = kind_of(options.seed, options.only)
        print(kind.__name__, run_case(options.seed, options.only))
        return
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    shares = (options.seed, options.first, options.cases)
    workers = [
        context.Process(target=run_share, args=(*shares, part, options.processes, queue))
        for part in range(options.processes)
    ]
    for worker in workers:
        worker.start()
    answers = []
    while len(answers) < len(workers):
        if queue.empty() and not any(worker.is_alive() for worker in workers):
            break  # a process that ended without an answer crashed
        time.sleep(0.2)
        while not queue.empty():
            answers.append(queue.get())
    endings, failures = Counter(), []
    for counted, failed, *_ in answers:
        endings += counted
        failures += failed
    crashed = len(workers) - len(answers)
    kinds = {kind: {end: n for (k, end), n in sorted(endings.items()) if k == kind} for kind, _ in sorted(endings)}
    report = {
        "cases": sum(endings.values()),
        "kinds": kinds,
        "failures": sorted(failures),
        "crashed_processes": crashed,
        "slowest": max((slowest for *_, slowest, _ in answers), default=None),
        "peak_mib": max((highest >> 20 for *_, highest in answers), default=None),
    }
    print(json.dumps(report, indent=1))
    sys.exit(bool(failures or crashed))


if __name__ == "__main__":
    main()
