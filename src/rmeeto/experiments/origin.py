"""Where the figures of a page come from: cells, time, machines, versions and commits, as the store has them."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rmeeto.experiments.store import Result, Store
from rmeeto.experiments.summary import Summary
from rmeeto.files.jsontext import to_json
from rmeeto.report.words import plural

SHORT = 8  # digits of hashes on the page; the CSV has all of them
WORKS = {"free": "scored", "trained": "re-trained", "speed": "timed", "nats": "estimated", "pictures": "drawn"}


@dataclass(frozen=True)
class Origin:
    """The cells of some tables. planned: distinct ones. results: of those that the store holds, by key."""

    planned: int
    results: tuple[Result, ...]

    @classmethod
    def of(cls, summaries: Sequence[Summary], store: Store) -> Origin:
        """The cells of these tables."""
        keys = sorted({key for one in summaries for line in one.figures for figure in line for key in figure.keys})
        found = [store.of_key(key) for key in keys]
        return cls(len(keys), tuple(result for result in found if result is not None))

    @property
    def seconds(self) -> float:
        """That all cells took, added up."""
        return sum(result.seconds for result in self.results)

    def data(self) -> list[str]:
        """Fingerprints of the data sets."""
        return sorted({str(result.identity.get("data")) for result in self.results})

    def machines(self) -> list[str]:
        """Each machine with the number of its cells."""
        return self._counted(lambda result: machine_text(result.machine))

    def versions(self) -> list[str]:
        """Each set of versions with the number of its cells."""
        return self._counted(lambda r: ", ".join(f"{name} {number}" for name, number in sorted(r.versions.items())))

    def commits(self) -> list[str]:
        """Each commit with the number of its cells."""
        return self._counted(lambda result: result.commit or "an installed package, of no commit")

    def _counted(self, describe: Callable[[Result], str]) -> list[str]:
        texts = [describe(result) or "not recorded" for result in self.results]
        return [f"{text} ({plural(texts.count(text), 'cell')})" for text in sorted(set(texts))]

    def lines(self) -> list[list[str]]:
        """A line for each cell, for the page; under :data:`HEADS`."""
        return [_line(result) for result in self.results]

    def to_csv(self) -> str:
        """A line for each cell: what tells it from others in short, and its figures and hashes with all digits."""
        written = io.StringIO()
        lines = csv.writer(written, lineterminator="\n")
        lines.writerow(["key", *IDENTITY, *RESULT])
        for result in self.results:
            lines.writerow([result.key, *_values(result.identity, IDENTITY), *_values(asdict(result), RESULT)])
        return written.getvalue()


HEADS = ("cell", "done", "model", "reduction", "seed", "figure", "loss", "images", "seconds", "weights", "commit")
IDENTITY = ("work", "model", "reduction", "seed", "data")
RESULT = ("top1_percent", "loss", "images", "speed", "nats", "seconds", "weights", "commit")


def machine_text(machine: dict[str, Any]) -> str:
    """A machine in one line."""
    cores = machine.get("cores")
    known = [
        machine.get("processor"),
        None if cores is None else plural(cores, "core"),
        *machine.get("accelerators", ()),
        machine.get("system"),
        f"Python {machine['python']}" if "python" in machine else None,
    ]
    return ", ".join(str(part) for part in known if part)


def _line(result: Result) -> list[str]:
    identity = result.identity
    width = dict((identity.get("base") or {}).get("model_options", {})).get("dim")
    model = f"{identity['model']}" if width is None else f"{identity['model']}, width {width}"
    return [
        result.key,
        WORKS.get(identity["work"], identity["work"]),
        model,
        identity["reduction"],
        f"{identity['seed']}",
        _figure(result),
        "" if result.loss is None else f"{result.loss:.4f}",
        f"{result.images:,}" if result.images else "",
        f"{result.seconds:.0f}",
        result.weights[:SHORT],
        (result.commit or "")[:SHORT],
    ]


def _figure(result: Result) -> str:
    """What the cell is about, in short."""
    if result.nats is not None:
        return ", ".join(f"{name} {result.nats.of(name):.2f}" for name in result.nats.estimates) + " nats"
    if result.pictures is not None:
        return plural(len(result.pictures.pictures), "picture")
    if result.speed is not None:
        return f"{statistics.median(result.speed.images_per_second):,.0f} images/s"
    return f"{result.top1_percent:.2f} %"


def _values(of: Mapping[str, Any], names: Iterable[str]) -> list[Any]:
    values = [of.get(name) for name in names]
    return [to_json(value) if isinstance(value, dict) else value for value in values]
