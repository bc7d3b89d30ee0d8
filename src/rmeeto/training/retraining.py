"""Re-train a reduced model (paper, section 2.4), or train one from scratch: the same loop, another recipe."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from rmeeto.errors import RunError
from rmeeto.evaluation import Evaluation
from rmeeto.evaluation.results import Results
from rmeeto.recipe import Recipe
from rmeeto.runtime.processes import talking
from rmeeto.runtime.progress import SILENT, Progress
from rmeeto.runtime.randomness import seed_of, seeded
from rmeeto.training.building import make_accelerator
from rmeeto.training.run import Run
from rmeeto.training.run_folder import RunFolder


def retrain(recipe: Recipe, *, resume: bool = False, progress: Progress = SILENT) -> Results:
    """Evaluate unreduced and reduced, train, evaluate again; leave model, log and results in ``recipe.output``.

    The folder then holds ``config.json`` and ``model.safetensors`` (``rmeeto.create_model(folder)`` builds it),
    ``best/`` with the best epoch, ``log.jsonl``, ``results.json`` and ``recipe.toml``; and while the run is under
    way ``state.pt``, from which ``resume=True`` goes on, bit for bit on a processor. ``resume=True`` also begins a
    run that has not begun, and returns the results of one that is complete. Under a launcher such as torchrun the
    processes share each step's images, and only process 0 writes files and messages.

    An exception that ends a run is raised unchanged, with a note on how to go on. The state after the last whole step
    is saved first, and no process that reads images is left.

    Raises:
        RunError: the output folder is in use, the disk is full, the loss is not finite, or the run was interrupted.
        DataError, CheckpointError, ConfigError, UnknownName: before anything is written.
    """
    with _entered(recipe, resume, progress) as run:
        if isinstance(run, Results):
            return run
        with run.interruptible() as interruption:
            run.evaluate_before()
            run.train(interruption, range(1, recipe.epochs + 1))
            return run.finish()


def train(recipe: Recipe, *, resume: bool = False, progress: Progress = SILENT) -> Evaluation:
    """Only train, and score the last epoch; for many runs of an experiment, which has its other figures already.

    Nothing is evaluated before training or between epochs, no speed is measured, and no ``results.json`` is written.
    Model, log and state are left in ``recipe.output`` as by :func:`retrain`, whose errors this raises too.
    """
    with _entered(recipe, resume, progress) as run:
        if isinstance(run, Results):
            raise RunError(
                f"train in {recipe.output}",
                why="it holds a complete run, which was evaluated before training too",
                fix="choose another output folder",
            )
        with run.interruptible() as interruption:
            run.train(interruption, (recipe.epochs,))
            return run.last_evaluation()


@contextmanager
def _entered(recipe: Recipe, resume: bool, progress: Progress) -> Iterator[Run | Results]:
    """The run in its locked folder, ready to begin or to go on; the results of one that is complete."""
    accelerator = make_accelerator(recipe)
    folder = RunFolder(recipe.output, resume=resume)
    # the caller's random generators are left as they were
    with folder if accelerator.is_main_process else nullcontext(), seeded(seed_of(recipe.seed, "weights")):
        with talking():
            accelerator.wait_for_everyone()
        results = folder.finished(recipe)
        yield results or Run(recipe, accelerator, folder, progress if accelerator.is_main_process else SILENT)
