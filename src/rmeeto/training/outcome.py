"""What a run leaves: the model of every epoch, and the results once the run is complete."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rmeeto.evaluation.results import EpochScore, Results, Row, Score
from rmeeto.files.jsontext import to_json
from rmeeto.models.checkpoint import save_model
from rmeeto.models.reducible import ReducibleModel
from rmeeto.recipe import Recipe
from rmeeto.training.conditions import versions
from rmeeto.training.run_state import Journal


def save_epoch(
    model: ReducibleModel, folders: Sequence[Path], recipe: Recipe, classes: Sequence[str], epoch: int, score: Score
) -> None:
    """Write the model to each folder, with what it was trained by and on and how good it is."""
    metadata = {
        "recipe": recipe.to_toml(),
        "classes": to_json(list(classes)),
        "epoch": str(epoch),
        "top1_percent": f"{score.top1_percent:.3f}",
    }
    for folder in folders:
        save_model(model, folder, name=recipe.model, metadata=metadata)


def results_of(
    recipe: Recipe,
    journal: Journal,
    rows: Sequence[Row],
    *,
    output: str,
    seconds: float,
    train_images: int,
    classes: int,
) -> Results:
    """The results of a run. rows: unreduced, reduced, trained. output: the run's folder."""
    return Results(
        rows=tuple(rows),
        epochs=tuple(EpochScore(epoch, row["top1_percent"], row["loss"]) for epoch, row in enumerate(journal.after, 1)),
        recipe=recipe.to_toml(),
        output=output,
        seconds=seconds,
        steps=journal.step,
        train_images=train_images,
        val_images=rows[0].images,
        classes=classes,
        skipped_images=tuple(journal.unreadable),
        skipped_steps=journal.skipped_steps,
        data_fingerprint=journal.data_fingerprint,
        versions=versions(),
        **{name: journal.conditions[name] for name in ("device", "precision", "backend", "processes", "threads")},
        changes=tuple(journal.changes),
    )
