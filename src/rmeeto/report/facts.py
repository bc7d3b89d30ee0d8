"""What the figures depend on: settings and machine, enough to repeat the run and to compare speeds."""

from __future__ import annotations

from rmeeto.data.media import CLIPS, IMAGES, Kind
from rmeeto.errors import RmeetoError
from rmeeto.evaluation.results import Results
from rmeeto.models.description import describe
from rmeeto.recipe import Recipe
from rmeeto.report.words import duration, plural
from rmeeto.runtime.doctor import Machine


def facts(results: Results, recipe: Recipe, machine: Machine) -> list[tuple[str, str]]:
    """Names and values, in the order of reading."""
    many = kind_of(recipe).many
    lines = [
        ("model", recipe.model),
        ("reduction", recipe.reduction),
        (
            "data",
            f"{recipe.data}: {results.train_images:,} training and {results.val_images:,} validation {many} of "
            f"{results.classes} classes (fingerprint {results.data_fingerprint})",
        ),
        (
            "training",
            f"{plural(len(results.epochs), 'epoch')}, {plural(results.steps, 'step')} of "
            f"{recipe.images_per_step} {many}, learning rate {recipe.lr:g} → {recipe.min_lr:g}",
        ),
        ("seed", f"{recipe.seed}"),
        (
            "computed in",
            f"{results.precision} on {results.device}, {results.backend} kernels, "
            f"{plural(machine.threads, 'thread')}, {plural(results.processes, 'process', 'processes')}",
        ),
        ("versions", ", ".join(f"{name} {number}" for name, number in results.versions.items())),
        ("machine", f"{machine.processor}, {plural(machine.cores, 'core')}; {machine.system}; Python {machine.python}"),
        ("time", duration(results.seconds)),
    ]
    if machine.accelerators:
        lines.append(("accelerators", ", ".join(machine.accelerators)))
    if results.skipped_images:
        lines.append((f"unreadable {many}", f"{len(results.skipped_images)} left out of training"))
    if results.skipped_steps:
        lines.append(("skipped steps", f"{results.skipped_steps}, for a loss that was not finite"))
    return lines


def kind_of(recipe: Recipe) -> Kind:
    """What the recipe's model takes; images if the model's folder no longer exists."""
    frames = dict(recipe.model_options).get("frames")
    if frames is None:
        try:
            frames = getattr(describe(recipe.model).config, "frames", 1)
        except RmeetoError:
            frames = 1
    return CLIPS if isinstance(frames, int) and frames > 1 else IMAGES
