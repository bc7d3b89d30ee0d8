"""Table 3 without its machines: the paper's minutes on one node fix the speed of one GPU, and the rest follows."""

from __future__ import annotations

from rmeeto.errors import ConfigError
from rmeeto.experiments.definition import Row
from rmeeto.models.description import describe
from rmeeto.speed import Job, Machines, calibrate, parameters_of, predict
from rmeeto.speed.table3 import BATCHES, EPOCHS, GPUS_OF_A_NODE, IMAGENET_IMAGES, MINUTES


def minutes(row: Row) -> float:
    """Minutes of re-training on a row's ``machines``, nodes of 8 GPUs, as ``rmeeto plan --calibrate 8=…`` says.

    Raises:
        ConfigError: a model that Table 3 does not have.
    """
    if row.model not in MINUTES:
        raise ConfigError(f"predict minutes of {row.model}", why="Table 3 does not have it")
    batch, passes = BATCHES[row.model]
    parameters = parameters_of(describe(row.model).config)
    job = Job(images=IMAGENET_IMAGES, parameters=parameters, epochs=EPOCHS, batch=batch, passes=passes)
    speed = calibrate(job, Machines(GPUS_OF_A_NODE), MINUTES[row.model][GPUS_OF_A_NODE])
    return predict(job, Machines(GPUS_OF_A_NODE, int(row.coordinates["machines"])), speed).total_minutes
