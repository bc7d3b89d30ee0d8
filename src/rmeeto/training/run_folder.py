"""The folder of a run: one run at a time, and nobody's work overwritten."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from filelock import FileLock, Timeout

from rmeeto.errors import RunError
from rmeeto.models.checkpoint import WEIGHTS, write_atomically
from rmeeto.recipe import Recipe, parse_recipe
from rmeeto.results import Results, load_results
from rmeeto.training.run_state import refuse_changes

LOCK, HOLDER = "run.lock", "run.pid"


class RunFolder:
    """A run's output, locked while the run lives. The lock dies with its process, so there are no stale ones.

    Raises (on entering):
        RunError: another run is in it, it holds something and ``resume`` was not asked for, or it cannot be written.
    """

    def __init__(self, output: str, *, resume: bool) -> None:
        self.path = Path(output).expanduser()
        self.resume = resume
        self.recipe_file = self.path / "recipe.toml"
        self.state_file = self.path / "state.pt"
        self.results_file = self.path / "results.json"
        self.log_file = self.path / "log.jsonl"
        self.best = self.path / "best"
        self._lock = FileLock(self.path / LOCK, timeout=0)

    def __enter__(self) -> RunFolder:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except Timeout:
            raise self._in_use(f"{self._holder()} is running in it", "wait for it, or choose another output") from None
        except OSError as error:
            raise RunError(f"write to {self.path}", why=str(error), fix="choose another output folder") from error
        try:
            self._refuse_foreign_content()
            (self.path / HOLDER).write_text(f"{os.getpid()} {socket.gethostname()}\n")
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        (self.path / HOLDER).unlink(missing_ok=True)
        self._lock.release()

    def begin(self, recipe: Recipe) -> None:
        """Note the recipe of a run that has saved nothing yet, and start its log afresh."""
        if not self.state_file.exists():
            self.log_file.unlink(missing_ok=True)
            write_atomically(self.recipe_file, lambda path: path.write_text(recipe.to_toml(), encoding="utf-8"))

    def finished(self, recipe: Recipe) -> Results | None:
        """The results of a run with this recipe that is already complete."""
        if not self.results_file.exists():
            return None
        self._refuse_other(recipe)
        return load_results(self.results_file)

    def finish(self, results: Results) -> None:
        """Write the results; the state is no longer needed."""
        write_atomically(self.results_file, lambda path: path.write_text(results.to_json() + "\n", encoding="utf-8"))
        self.state_file.unlink(missing_ok=True)

    def _refuse_other(self, recipe: Recipe) -> None:
        refuse_changes(self.recipe_file, parse_recipe(self.recipe_file.read_text(encoding="utf-8")), recipe)

    def _refuse_foreign_content(self) -> None:
        content = sorted(p.name for p in self.path.iterdir() if p.name not in (LOCK, HOLDER))
        stillborn = [self.log_file.name, self.recipe_file.name]  # it stopped before it saved anything
        if not content or content == stillborn:
            return
        if not self.resume:
            what = "a run" if self.recipe_file.exists() else f"{len(content)} files, {content[0]} among them"
            raise self._in_use(f"it holds {what}", "resume it (--resume, resume=True), or choose another output")
        if not self.recipe_file.exists():
            model = " a model but" if (self.path / WEIGHTS).exists() else ""
            raise RunError(
                f"resume the run in {self.path}",
                given=", ".join(content[:5]),
                why=f"the folder holds{model} no run: recipe.toml is missing",
                fix="check the output folder, or start a new run in an empty one",
            )

    def _in_use(self, why: str, fix: str) -> RunError:
        return RunError(f"write a run to {self.path}", why=f"the folder is in use: {why}", fix=fix)

    def _holder(self) -> str:
        try:
            pid, host = (self.path / HOLDER).read_text().split()
        except (OSError, ValueError):
            return "another process"
        return f"process {pid} on {host}"
