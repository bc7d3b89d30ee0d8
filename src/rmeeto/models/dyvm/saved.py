"""A Dynamic Vision Mamba back from the folder that it was saved in."""

from __future__ import annotations

from pathlib import Path

from rmeeto.errors import CheckpointError
from rmeeto.models import checkpoint
from rmeeto.models.description import describe
from rmeeto.models.dyvm.network import DynamicMamba
from rmeeto.models.family import family_of
from rmeeto.models.loading import load_into
from rmeeto.ops.select import Impl


def load_dynamic(folder: str | Path, *, impl: Impl = "auto") -> DynamicMamba:
    """Build the model that :func:`rmeeto.save_model` wrote into a folder, predictors and gates included.

    folder: a path, or ``hf-hub:owner/name[@revision]``. impl: kernels to use.

    Raises:
        CheckpointError: no such folder, another kind of model in it, or weights that do not fit.
        UnknownName: the name of a model instead of a folder.
    """
    described = describe(str(folder))
    if described.folder is None or described.dynamic is None:
        raise CheckpointError(
            f"build a Dynamic Vision Mamba from {folder}",
            why="its predictors and gates are not there",
            fix="rmeeto.create_model builds other models; DynamicMamba(model, DynamicConfig()) puts new heads on one",
        )
    network = family_of(described.family).build(described.config, None, impl)
    model = DynamicMamba(network, described.dynamic)
    load_into(model, checkpoint.read_weights(described.folder), folder)
    return model.eval()
