"""One run: its epochs, what it saves on the way, and the table it ends in."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict
from functools import partial
from itertools import pairwise

from accelerate import Accelerator

from rmeeto.cost import stack_of
from rmeeto.data import (
    Batch,
    Preparation,
    check_classes,
    fingerprint,
    open_data,
    stratified,
    training_batches,
    training_reading,
)
from rmeeto.errors import RmeetoWarning, RunError
from rmeeto.evaluation import Evaluation, evaluate
from rmeeto.evaluation.results import Results, Score
from rmeeto.evaluation.scores import add_speeds, score, warn_at_chance
from rmeeto.models.reducible import ReducibleModel
from rmeeto.recipe import Recipe
from rmeeto.reduction.annealing import Annealing
from rmeeto.runtime.devices import find_precision
from rmeeto.runtime.processes import talking
from rmeeto.runtime.progress import Progress, Task
from rmeeto.training.average import WeightAverage
from rmeeto.training.building import build_model, check_same_classes
from rmeeto.training.clock import RunClock
from rmeeto.training.conditions import WHAT_FOLLOWS, changes, check_same_beginning, check_same_data, conditions_of
from rmeeto.training.interruption import Interrupted, Interruption
from rmeeto.training.objective import Objective, make_teacher
from rmeeto.training.outcome import results_of, save_epoch
from rmeeto.training.run_folder import RunFolder
from rmeeto.training.run_state import Journal, has_usable_weights, load_state, read_journal, restore, save_state
from rmeeto.training.runlog import RunLog
from rmeeto.training.step import Interval, Stepper, StepReport


class Run:
    """One run from its first evaluation to its results. Everything that changes is in ``journal`` and the weights."""

    def __init__(self, recipe: Recipe, accelerator: Accelerator, folder: RunFolder, progress: Progress) -> None:
        self.recipe, self.accelerator, self.folder, self.progress = recipe, accelerator, folder, progress
        self.train_data, self.val_data = open_data(recipe.data, "train"), open_data(recipe.data, "val")
        self.model = build_model(recipe, len(self.train_data.classes))
        check_same_classes(self.train_data.classes, self.val_data.classes, recipe.data)
        check_classes(self.train_data, self.model.num_classes)
        self.model.class_names = self.train_data.classes
        self.indices = stratified(self.train_data.labels, recipe.subset, recipe.seed)
        self.plan = recipe.batch_plan(len(self.indices), accelerator.num_processes)
        # impossible augmentations are refused here, before anything is written
        training_reading(self.train_data, Preparation.of(self.model), recipe.augmentation, recipe.views)
        self.precision = find_precision(recipe.precision, accelerator.device)
        self.reduction = self.model.reduction
        self.annealing = Annealing(self.reduction, stack_of(self.model.config), recipe.anneal * self.plan.total_steps)
        self.journal = Journal(
            data_fingerprint=fingerprint(self.train_data, self.val_data),
            conditions=conditions_of(accelerator, recipe, self.precision),
        )
        objective = Objective(recipe, self.model.num_classes, make_teacher(self.model, recipe, accelerator.device))
        self.stepper = Stepper(accelerator, self.model, objective, recipe, self.plan, self.precision)
        if accelerator.is_main_process and (warning := self.stepper.rate.warning()):
            warnings.warn(warning, RmeetoWarning, stacklevel=5)  # at the caller of retrain
        self.average = None if recipe.ema_decay is None else WeightAverage(self.model, recipe.ema_decay)
        self._begin_or_resume()
        if accelerator.num_processes > 1:
            check_same_beginning(self.journal.step, self.journal.data_fingerprint)
        self.clock = RunClock(self.journal.seconds)
        self._weights_work = True  # False after a step whose loss or gradient was not finite
        self._saved_step, self._tried_to_save = self.journal.step, self._position()
        self._evaluation: Evaluation | None = None  # the last one of this process
        self._torn = False  # weights are changed whose step the journal does not count yet
        self._on_change: Callable[[], object] = lambda: None  # what happens before weights change
        self.stepper.optimizer.register_step_pre_hook(self._before_change)

    def _begin_or_resume(self) -> None:
        """Take over a saved state if there is one; only now, that model and data are in order, touch the folder."""
        main, path = self.accelerator.is_main_process, self.folder.states.newest
        self.log = RunLog(self.folder.log_file if main else None)
        damage = self.folder.begin(self.recipe) if main else None
        with talking():
            self.accelerator.wait_for_everyone()
        if not self.folder.states.exist():
            conditions = self.journal.conditions
            self.log.write("start", 0, images=len(self.indices), total_steps=self.plan.total_steps, **conditions)
            self.progress.message(str(self.plan))
            return
        state = load_state(path, self.recipe)
        journal = read_journal(path, state, self.plan.total_steps)
        check_same_data(self.recipe, journal.data_fingerprint, self.journal.data_fingerprint)
        changed = changes(journal.conditions, self.journal.conditions)
        journal.conditions = self.journal.conditions
        self.journal = journal
        restore(path, state, self.model, self.average, self.stepper.optimizer)
        evaluations = len(journal.before) + len(journal.after)
        self.log.write("resume", journal.step, evaluations=evaluations, **journal.conditions)
        if damage is not None:
            self.log.write("damaged_state", journal.step, reason=damage)
            self.progress.message(damage)
        self.progress.message(f"resumed after step {journal.step} of {self.plan.total_steps}")
        if changed:
            journal.changes += [f"after step {journal.step}, {change}" for change in changed]
            self.log.write("changed_conditions", journal.step, changes=changed)
            self.progress.message(f"not as before: {'; '.join(changed)}; {WHAT_FOLLOWS}")

    @contextmanager
    def interruptible(self) -> Iterator[Interruption]:
        """A block that signals and exceptions may end without loss."""
        fix = f"go on with --resume (resume=True); the state is in {self.folder.path}"
        with Interruption(fix) as interruption, self.rescued():
            yield interruption

    @contextmanager
    def rescued(self) -> Iterator[None]:
        """A block whose exceptions end the run: save the state after the last whole step, and say how to go on."""
        try:
            yield
        except Exception as error:
            if self.accelerator.is_main_process:
                self._rescue(error)
            raise

    def _rescue(self, error: Exception) -> None:
        newer = self._position() != self._tried_to_save
        if newer and not self._torn:
            try:
                self._save_state()
            except (RunError, OSError, RuntimeError, MemoryError) as refusal:
                error.add_note(f"the newest state could not be saved: {refusal}")
        if not self._weights_work:
            error.add_note("the last steps were skipped, because loss or gradient was not finite: try a smaller lr")
        if self.folder.states.exist() and not isinstance(error, Interrupted):
            error.add_note(
                f"the state after step {self._saved_step} of {self.plan.total_steps} is saved in "
                f"{self.folder.path}: go on with --resume (resume=True)"
            )

    def _position(self) -> tuple[int, int, int]:
        """How far the run has come: steps, evaluations before training, evaluations after an epoch."""
        return self.journal.step, len(self.journal.before), len(self.journal.after)

    def _before_change(self, *optimizer: object) -> None:
        self._on_change()
        self._torn = True

    def evaluate_before(self) -> None:
        """The rows that training is measured against: the unreduced model and the training-free reduced one."""
        if self.journal.before:
            return
        self.model.reduction = None
        unreduced = self._evaluate("before training" if self.reduction is None else "unreduced", self.model)
        rows = [asdict(unreduced)]
        if not self.recipe.from_scratch:
            warn_at_chance(unreduced, self.model.num_classes)
        self.model.reduction = self.reduction
        if self.reduction is not None:
            rows.append(asdict(self._evaluate("reduced", self.model)))
        self.journal.before = rows  # both at once: a run that stops between them evaluates both again
        self._save_state()

    def train(self, interruption: Interruption, evaluated: Sequence[int]) -> None:
        """The remaining steps, from wherever the journal stands.

        evaluated: the epochs after which the model is evaluated and kept, ascending, the last one among them.
        """
        name = "training" if self.reduction is None else "re-training"
        if not self.journal.step and not self.journal.before:
            self._save_state()  # a run that is killed before its first save in a step has a state to go on from too
        batches = training_batches(
            self.train_data,
            self.indices,
            Preparation.of(self.model),
            self.plan,
            augmentation=self.recipe.augmentation,
            clips=self.recipe.views,
            workers=self.recipe.workers,
            first_step=self.journal.step,
            rank=self.accelerator.process_index,
        )
        steps, epochs = self.plan.steps_per_epoch, self.recipe.epochs
        # of several processes none may stop before all have agreed on it
        together = self.accelerator.num_processes > 1
        with batches:
            for number, (begin, end) in enumerate(pairwise((0, *evaluated))):
                if self.journal.step >= end * steps and number < len(self.journal.after):
                    continue
                done = self.journal.step - begin * steps
                task = self.progress.task(f"{name}, epoch {_span(begin, end)}/{epochs}", (end - begin) * steps)
                with interruption.deferred() if together else nullcontext(), task as bar:
                    bar.advance(done)
                    self._steps(end * steps, batches, bar, interruption)
                    self._save_state()
                self.model.reduction = self.reduction
                self._end_epoch(end)

    def finish(self) -> Results:
        """Put the table together and write it."""
        journal, recipe = self.journal, self.recipe
        scores = [Score(**row) for row in (*journal.before, journal.after[-1])]
        rows = add_speeds(
            scores,
            [None, *[self.model.reduction] * (len(scores) - 1)],
            self.model,
            self.val_data,
            recipe.batch_size,
            self.accelerator.device,
            self.precision,
        )
        results = results_of(
            recipe,
            journal,
            rows,
            output=str(self.folder.path),
            seconds=self.clock.seconds(),
            train_images=len(self.indices),
            classes=self.model.num_classes,
        )
        with talking():
            self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            self.log.write("end", journal.step, seconds=results.seconds)
            self.folder.finish(results)
        return results

    def last_evaluation(self) -> Evaluation:
        """The score of the last epoch, image by image; it is repeated if another process had made it."""
        if self._evaluation is None:
            self._evaluate("trained", self.model if self.average is None else self.average.model)
        assert self._evaluation is not None
        return self._evaluation

    def _steps(self, until: int, batches: Iterator[Batch], task: Task, interruption: Interruption) -> None:
        interval = Interval(self.recipe.images_per_step)
        for step in range(self.journal.step, until):
            started = time.perf_counter()
            if self.recipe.anneal:
                self.model.reduction = self.annealing.at(step)
            # a signal waits from the first changed weight until the step is counted and logged
            with ExitStack() as whole:
                self._on_change = partial(whole.enter_context, interruption.deferred())
                report = self.stepper.step(step, batches, interrupted=interruption.requested)
                whole.enter_context(interruption.deferred())  # where no weight was changed, from here
                if report.taken and self.average is not None:
                    self.average.update(self.model)
                self.journal.step = step + 1
                self._torn, self._weights_work = False, report.taken
                self.clock.step_taken(started)
                self._note(report)
                interval.add(report)
                task.advance(1, loss=report.loss, left=self.clock.left(self.plan.total_steps - self.journal.step))
                if (step + 1) % self.recipe.log_every_steps == 0 or step + 1 == until:
                    epoch = (step + 1) / self.plan.steps_per_epoch
                    lr = self.stepper.rate.at(step)
                    self.log.write("step", step + 1, epoch=epoch, lr=lr, **interval.figures(), **self._so_far())
                    interval = Interval(self.recipe.images_per_step)
                if report.interrupted:  # several processes agree on it within a step
                    raise interruption.error()
                if self.clock.since_save() > self.recipe.save_every_seconds:
                    self._save_state()

    def _note(self, report: StepReport) -> None:
        """Remember and say what went wrong in a step."""
        journal = self.journal
        for name in report.unreadable:
            if name not in journal.unreadable:
                self.progress.message(f"unreadable, replaced by the next one: {name}")
                self.log.write("unreadable_image", journal.step, name=name)
            journal.unreadable[name] = journal.unreadable.get(name, 0) + 1
        if not report.taken:
            journal.skipped_steps += 1
            self.progress.message(f"step {journal.step - 1} skipped: its loss or gradient was not finite")
            self.log.write("skipped_step", journal.step, loss=str(report.loss), grad_norm=str(report.grad_norm))

    def _so_far(self) -> dict[str, float]:
        return {
            "skipped_images": sum(self.journal.unreadable.values()),
            "skipped_steps": self.journal.skipped_steps,
            "seconds": self.clock.seconds(),
        }

    def _end_epoch(self, epoch: int) -> None:
        """Evaluate, keep the model, and the best one."""
        model = self.model if self.average is None else self.average.model
        result = self._evaluate("trained" if model.reduction is None else "reduced + re-trained", model, epoch)
        best = max((earlier["top1_percent"] for earlier in self.journal.after), default=-1.0)
        if self.accelerator.is_main_process:
            folders = [self.folder.path, self.folder.best] if result.top1_percent > best else [self.folder.path]
            save_epoch(model, folders, self.recipe, self.train_data.classes, epoch, result)
        self.journal.after.append(asdict(result))
        self._weights_work = True
        self._save_state()

    def _evaluate(self, name: str, model: ReducibleModel, epoch: int = 0) -> Score:
        evaluation = evaluate(
            model,
            self.val_data,
            batch_size=self.recipe.batch_size,
            device=self.accelerator.device,
            precision=self.precision,
            workers=self.recipe.workers,
            views=self.recipe.views,
            progress=self.progress,
            description=f"evaluating {name}" + (f", epoch {epoch}" if epoch else ""),
        )
        self._evaluation = evaluation
        result = score(name, model, evaluation)
        self.log.write("evaluation", self.journal.step, epoch=epoch, **asdict(result), seconds=evaluation.seconds)
        self.progress.message(f"{name}: top-1 {result.top1_percent:.2f} %")
        return result

    def _save_state(self) -> None:
        """Save, unless the last step has shown that the weights are ruined: then the last good state is kept."""
        if not (self._weights_work and has_usable_weights(self.model)):
            return
        self.clock.state_saved()
        self._tried_to_save = self._position()
        self.journal.seconds = self.clock.seconds()
        if self.accelerator.is_main_process:
            self.log.sync()
            save_state(self.folder.states, self.recipe, self.journal, self.model, self.average, self.stepper.optimizer)
        self._saved_step = self.journal.step


def _span(begin: int, end: int) -> str:
    """The epochs behind number ``begin`` up to ``end``, as a title has them."""
    return str(end) if end == begin + 1 else f"{begin + 1} to {end}"
