import pickle

import pytest

from rmeeto.cli.failures import Defect
from rmeeto.errors import ConfigError, RmeetoError, UnknownName, UnknownOption
from rmeeto.runtime.processes import PeerLost
from rmeeto.training.interruption import Interrupted


@pytest.mark.parametrize(
    "error",
    [
        RmeetoError("ask", why="because"),
        ConfigError("ask", given="7", why="because", fix="mend it"),
        UnknownName("model", "vim_tini", ["vim_tiny"]),
        UnknownOption("option", "dims", ["dim"]),
        Interrupted("run", why="it was interrupted", fix="go on"),
        PeerLost("train", why="a process has ended"),
        Defect("this", why="that"),
    ],
)
def test_an_error_passes_to_another_process_as_it_is(error):
    error.add_note("a note")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert (copy.asked, copy.given, copy.why, copy.fix) == (error.asked, error.given, error.why, error.fix)
    assert copy.__notes__ == ["a note"]
    assert getattr(copy, "exit_code", None) == getattr(error, "exit_code", None)
