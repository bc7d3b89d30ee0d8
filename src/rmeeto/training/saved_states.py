"""The two newest states of a run, and which of them are whole."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

from rmeeto.errors import RunError
from rmeeto.files import durable
from rmeeto.files.durable import NewFile
from rmeeto.files.paths import open_file
from rmeeto.files.run_files import MANIFEST, PREVIOUS_STATE, STATE, SavedState, manifest_text, read_manifest

KEPT = 2


class SavedStates:
    """``state.pt``, the one saved before it, ``state.previous.pt``, and ``state.json`` with the SHA-256 of both.

    A save writes the new state under a temporary name, then renames ``state.pt`` to ``state.previous.pt`` and the new
    file to ``state.pt``, then replaces the manifest. Only then is the new state valid. A state is recognised by its
    hash, under whichever of the two names it stands, so that the newest valid one is found after a stop at any moment:

    ====================================  ==============  ===================  ===========  =====================
    stopped after                         state.pt        state.previous.pt    manifest     found
    ====================================  ==============  ===================  ===========  =====================
    (before the save)                     B               A                    B, A         B
    writing C under a temporary name      B               A                    B, A         B
    the first rename                      (none)          B                    B, A         B
    the second rename                     C               B                    B, A         B
    replacing the manifest                C               B                    C, B         C
    ====================================  ==============  ===================  ===========  =====================

    Only one process may save or :meth:`settle` at a time; the run's lock sees to that.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.newest, self.previous, self.manifest = folder / STATE, folder / PREVIOUS_STATE, folder / MANIFEST
        self._valid: list[SavedState] = []
        self._newest_is_valid = False  # state.pt is the newest valid state, so it must not be overwritten

    def exist(self) -> bool:
        """Whether anything was ever saved and not removed since."""
        return self.newest.exists() or self.previous.exists()

    def save(self, write: Callable[[NewFile], object], step: int) -> None:
        """Call ``write`` with a new file, and keep the result as the newest state.

        Raises:
            RunError: the disk refuses it; the newest valid state is still there.
        """
        with durable.prepare(self.newest, write) as new:
            if self._newest_is_valid and self.newest.exists():
                durable.rename(self.newest, self.previous)
            self._newest_is_valid = False
            new.place()
        self._write_manifest([SavedState(new.sha256, new.size, step), *self._valid])

    def settle(self) -> str | None:
        """Bring the newest valid state to ``state.pt``; returns what was wrong with a newer one, or None.

        Where no file has a hash from the manifest, the checksums inside the archives decide: earlier versions wrote no
        manifest, and it may be damaged itself.

        Raises:
            RunError: no valid state is left.
        """
        listed = read_manifest(self.folder)
        files = [file for file in (self.newest, self.previous) if file.exists()]
        hash_of = cache(_hash)
        for age, state in enumerate(listed):
            whole = next((file for file in files if hash_of(file) == state.sha256), None)
            if whole is not None:
                self._bring_to_front(whole)
                self._valid = listed[age:]
                if age == 0:
                    return None
                self._write_manifest(self._valid)
                return (
                    f"{STATE} is damaged: its SHA-256 is not the one that was written. Going on from the state before "
                    f"it, after step {state.step} instead of {listed[0].step}"
                )
        whole = next((file for file in files if _is_whole_archive(file)), None)
        if whole is None:
            raise RunError(
                f"resume the run in {self.folder}",
                given=", ".join(file.name for file in files),
                why="each saved state is damaged: its content is not what was written",
                fix="start again in another output folder, with weights= the last model if there is one",
            )
        self._bring_to_front(whole)
        reason = f"no saved state has a SHA-256 from {MANIFEST}" if listed else f"{MANIFEST} is missing or damaged"
        return f"{reason}. Going on from {whole.name}, whose own checksums are right"

    def remove(self) -> None:
        """Remove everything, once the run is complete.

        Raises:
            RunError: the disk refuses it.
        """
        files = [file for file in (self.previous, self.newest, self.manifest) if file.exists()]
        if files:
            durable.remove(*files)

    def _bring_to_front(self, file: Path) -> None:
        if file != self.newest:
            durable.rename(file, self.newest)
        self._newest_is_valid = True

    def _write_manifest(self, states: list[SavedState]) -> None:
        kept = states[:KEPT]
        durable.write_text(self.manifest, manifest_text(kept))
        self._valid, self._newest_is_valid = kept, True


def _hash(file: Path) -> str | None:
    try:
        return durable.sha256_of(file)
    except OSError:  # a part of the disk that cannot be read is damage as well
        return None


# What zipfile raises for damaged archives. It is a RuntimeError where a changed byte claims encryption or an unknown
# compression.
DAMAGE = (OSError, zipfile.BadZipFile, zlib.error, ValueError, EOFError, RuntimeError)


def _is_whole_archive(file: Path) -> bool:
    """Whether the checksums (CRC-32) in the archive that torch writes are right."""
    try:
        with open_file(file) as content, zipfile.ZipFile(content) as archive:
            return archive.testzip() is None
    except DAMAGE:
        return False
