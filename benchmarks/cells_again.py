"""Do stored cells come out the same, bit for bit, when they are run again from nothing?

    python benchmarks/cells_again.py --store docs/store --data images=DIR --data clips=DIR [--count 3] [--work DIR]

The cells are chosen by the hash of their keys, among those of the small scale that have scores and whose
data are given. Each is run in an empty folder, its base model trained first; with --work, base models that are there
are taken. Ends with 1 if a bit differs: of the outcome of any image, the loss or the weights.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
from pathlib import Path

from rmeeto.cli.console import progress
from rmeeto.cli.table import data_addresses, fingerprints_of
from rmeeto.experiments.cell import Cell
from rmeeto.experiments.definition import list_tables, load_table
from rmeeto.experiments.plan import places
from rmeeto.experiments.run import described, one_thread
from rmeeto.experiments.scale import load_scale
from rmeeto.experiments.store import Result, Store
from rmeeto.experiments.work import Workshop


def main() -> int:
    parser = argparse.ArgumentParser(description="Run stored cells again and compare them bit for bit.")
    parser.add_argument("--store", required=True, type=Path)
    parser.add_argument("--data", required=True, action="append", help="NAME=DIR, as rmeeto table takes it")
    parser.add_argument("--count", type=int, default=3)
    parser.add_argument("--work", type=Path, help="folder of base models; by default they are trained again")
    options = parser.parse_args()
    scale = load_scale("small")
    addresses = data_addresses(scale, options.data)
    fingerprints = fingerprints_of(scale, addresses)
    store = Store(options.store)
    found: dict[str, tuple[Cell, str]] = {
        cell.key: (cell, scale.models[cell.model].data)
        for name in list_tables()
        for place in places(load_table(name), scale, fingerprints)
        for cell in place.cells
        if scale.models[cell.model].data in addresses and has_scores(store.find(cell))
    }
    chosen = sorted(found, key=lambda key: hashlib.sha256(key.encode()).hexdigest())[: options.count]
    if not chosen:
        print("the store has no scored cell of these data", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as empty, one_thread():
        workshop = Workshop(options.work or Path(empty), addresses, 0, progress())
        return max(int(not is_same(*found[key], store, workshop)) for key in chosen)


def has_scores(result: Result | None) -> bool:
    return result is not None and result.correct is not None


def is_same(cell: Cell, data: str, store: Store, workshop: Workshop) -> bool:
    """Run a cell again, and print how it compares."""
    before, again = store.of_key(cell.key), workshop.run(cell, data)
    assert before is not None
    differing = int((before.bits() != again.bits()).sum())
    same = differing == 0 and before.loss == again.loss and before.weights == again.weights
    word = "equal, bit for bit" if same else f"not equal: {differing} of {before.images} images"
    print(f"{cell.key}  {described(cell)}: {before.top1_percent} % and {again.top1_percent} %, {word}", flush=True)
    return same


if __name__ == "__main__":
    sys.exit(main())
