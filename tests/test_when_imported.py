"""What waits for another package acts whichever of the two comes first."""

import importlib
import sys

import pytest

from rmeeto.when_imported import when_imported


def test_a_module_that_has_been_imported():
    acts = []
    when_imported("sys", lambda: acts.append(1))
    assert acts == [1]


def test_a_module_that_is_imported_later(tmp_path, monkeypatch):
    (tmp_path / "a_module_of_this_test.py").write_text("value = 3\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    finders, acts = list(sys.meta_path), []
    when_imported("a_module_of_this_test", lambda: acts.append(sys.modules["a_module_of_this_test"].value))
    assert acts == []
    importlib.import_module("a_module_of_this_test")
    assert acts == [3]
    assert sys.meta_path == finders
    del sys.modules["a_module_of_this_test"]


def test_a_module_that_does_not_exist():
    when_imported("no_such_module_anywhere", lambda: None)
    with pytest.raises(ModuleNotFoundError, match="no_such_module_anywhere"):
        importlib.import_module("no_such_module_anywhere")
