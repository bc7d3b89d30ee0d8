"""Processes that share one run, and what happens when one of them is lost."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from rmeeto.errors import RunError


class PeerLost(RunError):
    """Another process of the run has ended, so this one cannot go on."""


@contextmanager
def talking() -> Iterator[None]:
    """A block that waits for the other processes of a run.

    Raises:
        PeerLost: one of them has ended, or has not answered in time.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:  # the backends raise no specific class
        if not (isinstance(error, torch.distributed.DistError) or torch.distributed.is_initialized()):
            raise
        reason = str(error).strip().splitlines()[0]
        raise PeerLost(
            "share the work with the other processes",
            given=f"process {os.environ.get('RANK', '?')} of {os.environ.get('WORLD_SIZE', '?')}",
            why=f"another one has ended or cannot be reached; if it failed, its own message says why ({reason})",
            fix="start all processes again, a training run with --resume (resume=True): "
            "it goes on from its last saved state",
        ) from error
