"""Some validation images or clips as a model takes them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rmeeto.data import Preparation, Source, evaluation_batches
from rmeeto.errors import DataError
from rmeeto.models.reducible import ReducibleModel

BATCH = 64


def inputs(model: ReducibleModel, source: Source, places: Sequence[int], workers: int = 0) -> Tensor:
    """The images at these places of the source, ``(n, c, h, w)``, or clips, ``(n, c, t, h, w)``, in this order.

    Raises:
        DataError: one of them cannot be read, or the model takes something else.
    """
    read = []
    with evaluation_batches(source, Preparation.of(model), batch_size=BATCH, workers=workers, places=places) as batches:
        for batch in batches:
            if batch.unreadable:
                raise DataError(
                    f"read {len(places)} images of {source.address}",
                    given=batch.unreadable[0],
                    why="a result is about images chosen by its seed, and nothing can stand in for one of them",
                    fix="restore the file",
                )
            read.append(batch.images)
    return torch.cat(read)
