import pytest

from rmeeto.data.workers import lost_worker

SIGNALLED = "DataLoader worker (pid 7) is killed by signal: Killed. "
MISSED = "DataLoader worker (pid(s) 7) exited unexpectedly"


@pytest.mark.parametrize(
    ("message", "cause", "words"),
    [
        (SIGNALLED, None, "was killed by the signal Killed"),
        (MISSED, None, "ended unexpectedly"),
        (MISSED, SIGNALLED, "was killed by the signal Killed"),
        ("DataLoader timed out after 3 seconds", None, "no images came for 3 s"),
    ],
)
def test_what_pytorch_says_of_lost_workers_is_understood(message, cause, words):
    error = RuntimeError(message)
    error.__cause__ = None if cause is None else RuntimeError(cause)
    assert words in lost_worker(error).why


def test_other_errors_are_no_lost_workers():
    assert lost_worker(RuntimeError("other")) is None
    assert lost_worker(ValueError(SIGNALLED)) is None
