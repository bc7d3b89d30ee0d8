"""The log of a run: one JSON object per line, written as it happens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rmeeto.errors import RunError
from rmeeto.jsontext import to_json

Record = dict[str, Any]


class RunLog:
    """Appends records to ``log.jsonl``. Every record has ``event`` and ``step``; None as a path logs nothing."""

    def __init__(self, path: Path | None) -> None:
        self.path = path

    def write(self, event: str, step: int, **fields: Any) -> None:
        """Append one record.

        Raises:
            RunError: the disk refuses it.
        """
        if self.path is None:
            return
        line = to_json({"event": event, "step": step, **fields})
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            raise RunError(
                f"write {self.path}",
                why=f"the disk refused it ({error})",
                fix="free some space and resume; the last saved state is untouched",
            ) from error


def read_log(path: str | Path) -> list[Record]:
    """The records of a run, without those that a resumed run took back and did again.

    A last line that was cut off in the middle is left out. Events: ``start``, ``resume``, ``step``, ``evaluation``,
    ``skipped_step``, ``unreadable_image``, ``changed_conditions``, ``end``.
    """
    records: list[Record] = []
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if record["event"] == "resume":
            records = _still_valid(records, record["step"], record["evaluations"])
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
