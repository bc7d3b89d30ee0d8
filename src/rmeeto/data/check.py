"""Read everything once, before a run does: what is there, class by class, and what cannot be read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple, cast

from torch.utils.data import Dataset

from rmeeto.data.folder import ClipFiles
from rmeeto.data.lists import WrongLines
from rmeeto.data.open import open_data, splits_of
from rmeeto.data.samples import UNREADABLE, failure
from rmeeto.data.source import ImageSource, Source, Split
from rmeeto.data.video import TIMEOUT_SECONDS, count_frames
from rmeeto.data.workers import Stream
from rmeeto.runtime.progress import SILENT, Progress


class Range(NamedTuple):
    """Smallest and largest of some whole numbers."""

    least: int
    most: int

    def __str__(self) -> str:
        return str(self.least) if self.least == self.most else f"{self.least}–{self.most}"


class Finding(NamedTuple):
    """One image or clip. width, height: in pixels. frames: 1 of an image. problem: why it cannot be read."""

    label: int
    width: int = 0
    height: int = 0
    frames: int = 1
    problem: str | None = None


@dataclass(frozen=True)
class ClassReport:
    """One class of a split. items: images or clips, broken ones included. The ranges are of the readable ones."""

    name: str
    items: int
    broken: int
    width: Range | None
    height: Range | None
    frames: Range | None


@dataclass(frozen=True)
class SplitReport:
    """One split. kind: images or clips. broken: ``name: reason`` of every file or line that cannot be used."""

    split: Split
    kind: str
    classes: tuple[ClassReport, ...]
    broken: tuple[str, ...]


@dataclass(frozen=True)
class DataReport:
    """All that there is."""

    data: str
    splits: tuple[SplitReport, ...]

    @property
    def healthy(self) -> bool:
        """Whether everything can be read."""
        return not any(split.broken for split in self.splits)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"healthy": self.healthy, **asdict(self)}


def check_data(
    data: str, *, workers: int = 2, timeout_seconds: float = TIMEOUT_SECONDS, progress: Progress = SILENT
) -> DataReport:
    """Decode every image, and every frame of every clip, of all splits that ``data`` has.

    timeout_seconds: after which a clip counts as broken. workers: processes that read.

    Raises:
        DataError: there is nothing to read, or no way to tell what is which class.
    """
    return DataReport(
        data, tuple(_check_split(data, split, workers, timeout_seconds, progress) for split in splits_of(data))
    )


def _check_split(data: str, split: Split, workers: int, timeout_seconds: float, progress: Progress) -> SplitReport:
    wrong_lines: tuple[str, ...] = ()
    try:
        source = open_data(data, split)
    except WrongLines as error:
        source, wrong_lines = error.rest, error.lines
    if isinstance(source, ClipFiles):
        source = replace(source, timeout_seconds=timeout_seconds)
    findings = []
    inspected: Stream[Finding] = Stream(Inspection(source), workers, batch_size=None)
    with inspected, progress.task(f"checking {split}", total=len(source.labels)) as task:
        for finding in inspected:
            findings.append(finding)
            task.advance(1)
    problems = tuple(finding.problem for finding in findings if finding.problem is not None)
    kind = "clips" if isinstance(source, ClipFiles) else "images"
    return SplitReport(split, kind, tuple(_by_class(source, findings)), (*wrong_lines, *problems))


class Inspection(Dataset[Finding]):
    """What each item of a source turns out to be."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source.labels)

    def __getitem__(self, index: int) -> Finding:
        label = self.source.labels[index]
        try:
            return Finding(label, *_measured(self.source, index))
        except UNREADABLE as error:
            return Finding(label, problem=failure(self.source, index, error))


def _measured(source: Source, index: int) -> tuple[int, int, int]:
    """Width, height and number of frames, after decoding all of it."""
    if isinstance(source, ClipFiles):
        frames, size = count_frames(source.paths[index], timeout_seconds=source.timeout_seconds)
        return (*size, frames)
    return (*cast(ImageSource, source).read(index).size, 1)


def _by_class(source: Source, findings: Iterable[Finding]) -> Iterable[ClassReport]:
    by_label: dict[int, list[Finding]] = {label: [] for label in range(len(source.classes))}
    for finding in findings:
        by_label[finding.label].append(finding)
    for label, members in by_label.items():
        whole = [finding for finding in members if finding.problem is None]
        yield ClassReport(
            name=source.classes[label],
            items=len(members),
            broken=len(members) - len(whole),
            width=_range(finding.width for finding in whole),
            height=_range(finding.height for finding in whole),
            frames=_range(finding.frames for finding in whole),
        )


def _range(numbers: Iterable[int]) -> Range | None:
    values = sorted(numbers)
    return Range(values[0], values[-1]) if values else None
