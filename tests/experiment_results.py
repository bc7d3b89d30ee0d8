"""Results of cells with planted outcomes."""

import numpy as np

from rmeeto.experiments.store import Result, packed


def result_of(cell, correct=(True, False, True), speed=None):
    bits = np.array(correct, dtype=bool)
    return Result(
        key=cell.key,
        identity=cell.identity,
        top1_percent=None if speed else 100 * float(bits.mean()),
        loss=None if speed else 1.0,
        images=0 if speed else len(bits),
        correct=None if speed else packed(bits),
        speed=speed,
        seconds=1.5,
        weights="f" * 64,
        backend="cpp",
        versions={"torch": "2"},
        commit=None,
        machine={"cores": 2},
    )
