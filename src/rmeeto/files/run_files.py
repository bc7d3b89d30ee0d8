"""The names of the files in a run's folder, and the manifest of its saved states.

Models and training both read these names, so they are defined below both.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from rmeeto.files.paths import read_text

RECIPE, LOG, RESULTS = "recipe.toml", "log.jsonl", "results.json"
STATE, PREVIOUS_STATE, MANIFEST = "state.pt", "state.previous.pt", "state.json"
MANIFEST_FORMAT = 1


@dataclass(frozen=True)
class SavedState:
    """A state that was written completely. sha256: of the file. size: in bytes. step: optimiser steps done."""

    sha256: str
    size: int
    step: int


def manifest_text(states: list[SavedState]) -> str:
    """The manifest of these states, newest first."""
    return json.dumps({"format": MANIFEST_FORMAT, "states": [asdict(state) for state in states]}, indent=2) + "\n"


def read_manifest(folder: Path) -> list[SavedState]:
    """The saved states in a run's manifest, newest first; empty if there is no manifest or it is damaged."""
    try:
        content = json.loads(read_text(folder / MANIFEST))
        states = [SavedState(str(each["sha256"]), int(each["size"]), int(each["step"])) for each in content["states"]]
        return states if content["format"] == MANIFEST_FORMAT else []
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []


def why_no_model(folder: Path) -> str | None:
    """Why the folder of a run holds no model yet; None if it is not the folder of a run."""
    if not (folder / RECIPE).exists():
        return None
    states = read_manifest(folder)
    if not states:
        return "it is the folder of a run that has saved nothing yet"
    return (
        f"it is the folder of a run that has not finished its first epoch: its last saved state is of step "
        f"{states[0].step}"
    )
