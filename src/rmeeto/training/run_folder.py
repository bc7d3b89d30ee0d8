"""The folder of a run: one run at a time, and no work overwritten."""

from __future__ import annotations

import os
import socket
import warnings
from pathlib import Path

from filelock import FileLock, Timeout

from rmeeto.errors import ConfigError, RmeetoWarning, RunError, UnknownName
from rmeeto.evaluation.results import Results, load_results
from rmeeto.files import durable
from rmeeto.files.paths import read_text
from rmeeto.files.run_files import LOG, MANIFEST, PREVIOUS_STATE, RECIPE, RESULTS, STATE
from rmeeto.models.checkpoint import CONFIG, WEIGHTS
from rmeeto.recipe import Recipe, parse_recipe
from rmeeto.training.run_state import refuse_changes
from rmeeto.training.runlog import read_log
from rmeeto.training.saved_states import SavedStates

LOCK, HOLDER = "run.lock", "run.pid"
WRITTEN = (RECIPE, RESULTS, STATE, PREVIOUS_STATE, MANIFEST, WEIGHTS, CONFIG, HOLDER)


class RunFolder:
    """A run's output, locked while the run lives. The lock dies with its process, so there are no stale ones.

    A run that is refused before it has begun takes everything away again that entering the folder had made. A complete
    run in a folder that cannot be written is entered without a lock, to hand out its results.

    Raises (on entering):
        RunError: another run is in it, it holds something and ``resume`` was not asked for, it holds a run whose state
            is lost, or it cannot be written.
    """

    def __init__(self, output: str, *, resume: bool) -> None:
        self.path = Path(output).expanduser()
        self.resume = resume
        self.recipe_file = self.path / RECIPE
        self.results_file = self.path / RESULTS
        self.log_file = self.path / LOG
        self.best = self.path / "best"
        self.states = SavedStates(self.path)
        self._lock = FileLock(self.path / LOCK, timeout=0)
        self._made: list[Path] = []  # to be taken away again if the run does not begin

    def __enter__(self) -> RunFolder:
        try:
            self._made = durable.make_folder(self.path)
            new = not (self.path / LOCK).exists()
            self._lock.acquire()
            self._made += [self.path / LOCK] if new else []
        except Timeout:
            raise self._in_use(f"{self._holder()} is running in it", "wait for it, or choose another output") from None
        except OSError as error:
            if self.resume and self.results_file.exists():
                return self
            self._take_away()
            raise RunError(f"write to {self.path}", why=str(error), fix="choose another output folder") from error
        try:
            self._refuse_foreign_content()
            durable.remove(*self._leftovers())
            durable.write_text(self.path / HOLDER, f"{os.getpid()} {socket.gethostname()}\n")
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        if self._lock.is_locked:
            self._leave()

    def begin(self, recipe: Recipe) -> str | None:
        """Note the recipe of a run that has saved nothing yet, and start its log afresh; or settle what it has saved.

        Returns what was wrong with the newest saved state, if anything was.

        Raises:
            RunError: no saved state can be used, or the disk refuses the recipe.
        """
        damage = None
        if self.states.exist():
            damage = self.states.settle()
        else:
            durable.remove(self.log_file)
            durable.write_text(self.recipe_file, recipe.to_toml())
        self._made = []
        return damage

    def finished(self, recipe: Recipe) -> Results | None:
        """The results of a run with this recipe that is already complete.

        Raises:
            RunError: the run in this folder had another recipe, or its results are damaged.
        """
        if not self.results_file.exists():
            return None
        results = load_results(self.results_file)
        self._refuse_other(recipe, results)
        if self._lock.is_locked:  # a kill right after the results were written leaves the states behind
            self.states.remove()
        return results

    def finish(self, results: Results) -> None:
        """Write the results; the states are no longer needed."""
        durable.write_text(self.results_file, results.to_json() + "\n")
        self.states.remove()

    def _refuse_other(self, recipe: Recipe, results: Results) -> None:
        """The results hold the recipe that the run had, so that a damaged ``recipe.toml`` does not pass for a change.

        Raises:
            RunError: the run had another recipe.
        """
        ran = parse_recipe(results.recipe, source=str(self.results_file))
        damage = None
        try:
            if parse_recipe(read_text(self.recipe_file)) != ran:
                damage = "it is not the recipe that the run had"
        except (OSError, ValueError, ConfigError, UnknownName) as error:
            damage = error.why if isinstance(error, ConfigError | UnknownName) else str(error)
        try:
            refuse_changes(self.recipe_file, ran, recipe)
        except RunError as error:
            if damage is None:
                raise
            raise RunError(
                f"resume the run in {self.path}",
                given=error.given,
                why=f"{RECIPE} is damaged or was changed after the run: {damage}",
                fix=f'restore it from "recipe" in {RESULTS}, which is whole',
            ) from error
        if damage is not None:
            warnings.warn(
                f'{self.recipe_file} is damaged or was changed after the run: {damage}. "recipe" in {RESULTS} is whole',
                RmeetoWarning,
                stacklevel=4,
            )

    def _refuse_foreign_content(self) -> None:
        ours = {LOCK, HOLDER, *(path.name for path in self._leftovers())}
        content = sorted(path.name for path in self.path.iterdir() if path.name not in ours)
        if not content or self._is_stillborn(content):
            return
        if not self.resume:
            what = "a run" if self.recipe_file.exists() else f"{len(content)} files, {content[0]} among them"
            raise self._in_use(f"it holds {what}", "resume it (--resume, resume=True), or choose another output")
        asked, given, has_model = (
            f"resume the run in {self.path}",
            ", ".join(content[:5]),
            (self.path / WEIGHTS).exists(),
        )
        if not self.recipe_file.exists() and not self.results_file.exists():
            model = " a model but" if has_model else ""
            raise RunError(
                asked,
                given=given,
                why=f"the folder holds{model} no run: {RECIPE} is missing",
                fix="check the output folder, or start a new run in an empty one",
            )
        if not self.results_file.exists() and not self.states.exist() and self._has_worked():
            raise RunError(
                asked,
                given=given,
                why=f"its state is lost: there is neither {STATE} nor {RESULTS}, and to begin again would overwrite "
                "what it has left",
                fix=f"restore {STATE}, or start a new run in another output folder"
                + (", with this one as its model" if has_model else ""),
            )

    def _is_stillborn(self, content: list[str]) -> bool:
        """Whether a run stopped here before its first step, so that nothing is lost by beginning again."""
        if content == [RECIPE]:
            return self.resume  # without it, this may be the place where a recipe is kept
        return content == [LOG, RECIPE] and not self._has_worked()

    def _has_worked(self) -> bool:
        """Whether the run in this folder has taken a step: there is a model, or its log says so or cannot be read."""
        if any((self.path / name).exists() for name in (WEIGHTS, CONFIG, self.best.name, MANIFEST)):
            return True
        try:
            return self.log_file.exists() and any(record["step"] > 0 for record in read_log(self.log_file))
        except RunError:
            return True

    def _leftovers(self) -> list[Path]:
        """Temporary files of writes that were killed."""
        return durable.leftovers(self.path, WRITTEN) + durable.leftovers(self.best, (WEIGHTS, CONFIG))

    def _leave(self) -> None:
        """Give up the lock. What entering made is removed before that, so that it is still ours alone."""
        try:
            durable.take_away(self.path / HOLDER)
            self._take_away()
        finally:
            self._lock.release()

    def _take_away(self) -> None:
        durable.take_away(*reversed(self._made))
        self._made = []

    def _in_use(self, why: str, fix: str) -> RunError:
        return RunError(f"write a run to {self.path}", why=f"the folder is in use: {why}", fix=fix)

    def _holder(self) -> str:
        try:
            pid, host = read_text(self.path / HOLDER).split()
        except (OSError, ValueError):
            return "another process"
        return f"process {pid} on {host}"
