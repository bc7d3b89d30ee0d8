"""Re-train a reduced model (paper, section 2.4), or train one from scratch: the same loop, another recipe."""

from __future__ import annotations

from rmeeto.progress import SILENT, Progress
from rmeeto.recipe import Recipe
from rmeeto.results import Results


def retrain(recipe: Recipe, *, resume: bool = False, progress: Progress = SILENT) -> Results:
    """Evaluate unreduced and reduced, train, evaluate again; leave model, log and results in ``recipe.output``.

    The folder then holds ``config.json`` and ``model.safetensors`` (``rmeeto.create_model(folder)`` builds it),
    ``best/`` with the best epoch, ``log.jsonl``, ``results.json``, ``recipe.toml`` and ``state.pt`` to resume from.
    """
    raise NotImplementedError
