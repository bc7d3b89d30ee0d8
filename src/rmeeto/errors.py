"""The errors a user can cause. Each says what was asked, what was given, why not, and the way out.

The command line prints these without a traceback; any other exception is a defect of rmeeto.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any

LONGEST_NAME = 200  # of a name that is looked up and shown


class RmeetoError(Exception):
    """Base of every error that the caller can mend.

    ``asked`` is what the caller wanted, ``given`` what arrived (shapes, dtype, path), ``why`` the reason it cannot be
    done, ``fix`` the way out. ``str(error)`` puts them on up to four lines.
    """

    def __init__(self, asked: str, *, given: str | None = None, why: str, fix: str | None = None) -> None:
        self.asked, self.given, self.why, self.fix = asked, given, why, fix
        lines = [asked]
        if given is not None:
            lines.append(f"  given: {given}")
        lines.append(f"  why:   {why}")
        if fix is not None:
            lines.append(f"  fix:   {fix}")
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[Any, ...]:
        """Errors pass between processes whole, with their notes."""
        return _as_it_was, (type(self), self.asked, self.given, self.why, self.fix), self.__dict__


def _as_it_was(kind: type[RmeetoError], asked: str, given: str | None, why: str, fix: str | None) -> RmeetoError:
    error = kind.__new__(kind)
    RmeetoError.__init__(error, asked, given=given, why=why, fix=fix)
    return error


class UnknownName(RmeetoError):
    """A model, method, option or choice that does not exist; suggests the nearest ones that do."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names, name = sorted(known), str(name)[:LONGEST_NAME]
        near = get_close_matches(name, names, n=3, cutoff=0.4)
        fix = f"did you mean {' or '.join(near)}?" if near else f"choose one of: {', '.join(names)}"
        super().__init__(f"unknown {kind} {name!r}", why=f"no {kind} has that name", fix=fix)


class UnknownOption(UnknownName, TypeError):
    """An option that a model does not take; also a TypeError, as for every unknown keyword in Python."""


class ConfigError(RmeetoError):
    """A value that is impossible in itself or against the model it is for (r too large, a negative rate)."""


class UnsupportedInput(RmeetoError):
    """Tensors that the requested implementation cannot take (dtype, device, shape)."""


class CheckpointError(RmeetoError):
    """A weight file that is missing, corrupt, unsafe, or does not fit the model."""


class DataError(RmeetoError):
    """A data folder, image or label that cannot be used."""


class RunError(RmeetoError):
    """A run that had to stop: non-finite loss, a full disk, an output folder in use."""


def listed(lines: Sequence[str], most: int | None = None) -> str:
    """The first ``most`` lines (None is all of them) one below the other, as ``given``, and how many more there are."""
    more = [] if most is None or len(lines) <= most else [f"… {len(lines) - most} more"]
    return "\n         ".join([*lines[:most], *more])


class RmeetoWarning(UserWarning):
    """Tells of something that was changed for the user (a resized position embedding, a new head)."""
