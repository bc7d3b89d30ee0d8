"""The log of a run: one JSON object per line, written as it happens."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from rmeeto.errors import RunError
from rmeeto.files import durable
from rmeeto.files.jsontext import to_json
from rmeeto.files.paths import open_file

Record = dict[str, Any]


class RunLog:
    """Appends records to ``log.jsonl``. Every record has ``event`` and ``step``; None as a path logs nothing.

    A record that the disk refused is written before the next one, and at the latest by :meth:`sync`.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._refused_line = ""

    def write(self, event: str, step: int, **fields: Any) -> None:
        """Append one record.

        Raises:
            RunError: the disk refuses it.
        """
        if self.path is None:
            return
        self._write_refused(self.path)
        self._append(self.path, to_json({"event": event, "step": step, **fields}) + "\n")

    def sync(self) -> None:
        """Wait until all records are on the disk, so that the log never knows less than a state saved afterwards.

        Raises:
            RunError: the disk refuses it.
        """
        if self.path is None:
            return
        self._write_refused(self.path)
        if not self.path.exists():
            return
        try:
            durable.sync(self.path)
        except OSError as error:
            raise self._refused(error) from error

    def _write_refused(self, path: Path) -> None:
        if not self._refused_line:
            return
        try:
            # the error may have come after the writing
            is_written = path.is_file() and path.read_bytes().endswith(self._refused_line.encode("utf-8"))
        except OSError as error:
            raise self._refused(error) from error
        if not is_written:
            self._append(path, self._refused_line)
        self._refused_line = ""

    def _append(self, path: Path, line: str) -> None:
        self._refused_line = line
        try:
            durable.append(path, (_end_of_half_a_line(path) + line).encode("utf-8"))
        except OSError as error:
            raise self._refused(error) from error
        self._refused_line = ""

    def _refused(self, error: OSError) -> RunError:
        return RunError(
            f"write {self.path}",
            why=f"the disk refused it ({error})",
            fix="free some space and resume; the last saved state is untouched",
        )


def _end_of_half_a_line(path: Path) -> str:
    """The line break that a file lacks at its end, because writing its last line was cut short."""
    if not path.is_file() or path.stat().st_size == 0:
        return ""
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return "" if file.read(1) == b"\n" else "\n"


def read_log(path: str | Path) -> list[Record]:
    """The records of a run, without those that a resumed run took back and did again.

    A line that was cut off in the middle, or damaged, is left out. Events: ``start``, ``resume``, ``damaged_state``,
    ``changed_conditions``, ``step``, ``evaluation``, ``skipped_step``, ``unreadable_image``, ``end``.

    Raises:
        RunError: the file cannot be read.
    """
    records: list[Record] = []
    try:
        with open_file(path) as file:
            text = file.read().decode("utf-8", errors="replace")
    except OSError as error:
        raise RunError(
            f"read the log {path}", why=error.strerror or str(error), fix="give a run's log.jsonl"
        ) from error
    for line in text.split("\n"):
        try:
            record = json.loads(line)
            is_record = isinstance(record["event"], str) and isinstance(record["step"], int)
        except (ValueError, LookupError, TypeError, RecursionError):
            continue
        if not is_record:
            continue
        if record["event"] == "resume":
            records = _still_valid(records, record["step"], record.get("evaluations", 0))
        records.append(record)
    return records


def _still_valid(records: list[Record], step: int, evaluations: int) -> list[Record]:
    """What the state that a run resumed from knew of: records up to its step, and its first evaluations."""
    kept: list[Record] = []
    for record in records:
        evaluations -= record["event"] == "evaluation"
        if record["step"] <= step and not (record["event"] == "evaluation" and evaluations < 0):
            kept.append(record)
    return kept
