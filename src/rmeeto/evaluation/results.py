"""Results of a run, as a table for people and JSON for programs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rmeeto.errors import RunError
from rmeeto.files.jsontext import to_json
from rmeeto.files.paths import read_text

MOST_BYTES = 1 << 30  # the names of all images that were skipped are in it


@dataclass(frozen=True)
class Score:
    """One model state on the validation images.

    name: ``unreduced``, ``reduced``, ``reduced + re-trained``; without a reduction ``before training``, ``trained``.
    top1_percent, top5_percent: accuracy over ``images`` images; top 5 only from six classes on. loss: mean
    cross-entropy. gflops_exact, gflops_paper: per image, in both conventions of :mod:`rmeeto.cost`.
    tokens: per image, leaving the last block. reduction_ratio: share of tokens saved, averaged over the blocks. All
    four are means over the images if the reduction varies from image to image.
    """

    name: str
    top1_percent: float
    top5_percent: float | None
    loss: float
    gflops_exact: float
    gflops_paper: float
    tokens: float
    reduction_ratio: float
    images: int


@dataclass(frozen=True)
class Row(Score):
    """A score and how fast such a model runs here.

    images_per_second, speedup: of one process; the unreduced and the reduced model take turns at the end of the run,
    so that a drifting machine favours neither. Re-training does not change the cost, so the reduced rows share it.
    """

    images_per_second: float
    speedup: float


@dataclass(frozen=True)
class EpochScore:
    """Validation after an epoch of training (counted from 1)."""

    epoch: int
    top1_percent: float
    loss: float


@dataclass(frozen=True)
class Results:
    """A finished run.

    rows: see :class:`Row`. epochs: validation after each epoch. recipe: the recipe's TOML. output: the run's folder.
    seconds: training and evaluation, over all attempts of a resumed run. train_images, val_images: their number.
    skipped_images: names of training images that could not be read. skipped_steps: steps with a non-finite loss.
    data_fingerprint: of names and labels of both splits. backend: the kernels that ran. versions: of Python and the
    packages that matter.
    processes, threads: of the last attempt; threads of each process, None in results of earlier versions. changes:
    of processes, threads, device or torch between the attempts of a resumed run, with the steps they came after.
    """

    rows: tuple[Row, ...]
    epochs: tuple[EpochScore, ...]
    recipe: str
    output: str
    seconds: float
    steps: int
    train_images: int
    val_images: int
    classes: int
    skipped_images: tuple[str, ...]
    skipped_steps: int
    data_fingerprint: str
    device: str
    precision: str
    backend: str
    processes: int
    versions: dict[str, str]
    threads: int | None = None
    changes: tuple[str, ...] = ()

    @property
    def best_epoch(self) -> EpochScore:
        """The epoch with the highest validation accuracy, the earliest of equals."""
        return max(self.epochs, key=lambda score: (score.top1_percent, -score.epoch))

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and dicts."""
        return asdict(self)

    def to_json(self) -> str:
        """The results as indented JSON."""
        return to_json(self.to_dict(), indent=2)


def load_results(path: str | Path) -> Results:
    """Read ``results.json``, or the one in a run's folder.

    Raises:
        RunError: it is missing or not a results file.
    """
    path = Path(path)
    path = path / "results.json" if path.is_dir() else path
    try:
        content = json.loads(read_text(path, most=MOST_BYTES))
        content["rows"] = tuple(Row(**row) for row in content["rows"])
        content["epochs"] = tuple(EpochScore(**score) for score in content["epochs"])
        content["skipped_images"] = tuple(content["skipped_images"])
        content["changes"] = tuple(content.get("changes", ()))
        return Results(**content)
    except FileNotFoundError as error:
        raise RunError(
            f"read the results in {path}",
            why="there is no such file",
            fix="check the path; a run writes its results when it is complete",
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RunError(
            f"read the results in {path}",
            why=f"the file is damaged ({type(error).__name__}: {str(error)[:200]})",
            fix=f"the model is in files of its own: `rmeeto eval {path.parent} --data …` computes its row again",
        ) from error
