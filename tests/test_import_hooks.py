"""What waits for another package acts whichever of the two comes first, and moved modules still answer."""

import importlib
import pickle
import sys

import pytest

import rmeeto
from rmeeto.import_hooks import when_imported
from rmeeto.reduction.tokens import Tokens


def test_a_module_that_has_been_imported():
    acts = []
    when_imported("sys", lambda: acts.append(1))
    assert acts == [1]


def test_a_module_that_is_imported_later(tmp_path, monkeypatch):
    (tmp_path / "a_module_imported_later.py").write_text("value = 3\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    finders, acts = list(sys.meta_path), []
    when_imported("a_module_imported_later", lambda: acts.append(sys.modules["a_module_imported_later"].value))
    assert acts == []
    importlib.import_module("a_module_imported_later")
    assert acts == [3]
    assert sys.meta_path == finders
    del sys.modules["a_module_imported_later"]


def test_a_module_that_does_not_exist():
    when_imported("no_such_module_anywhere", lambda: None)
    with pytest.raises(ModuleNotFoundError, match="no_such_module_anywhere"):
        importlib.import_module("no_such_module_anywhere")


@pytest.mark.parametrize("name", rmeeto._MOVED_MODULES)
def test_a_moved_module_hands_out_what_it_had_and_names_its_new_place(name):
    new = importlib.import_module(f"rmeeto.{rmeeto._MOVED_MODULES[name]}")
    attribute = next(attribute for attribute in vars(new) if not attribute.startswith("__"))
    old = importlib.import_module(f"rmeeto.{name}")
    with pytest.warns(DeprecationWarning, match=f"rmeeto.{name} has moved to {new.__name__}"):
        assert getattr(old, attribute) is getattr(new, attribute)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = old.no_such_name


def test_what_was_pickled_before_a_module_moved_is_still_read():
    now = pickle.dumps(Tokens, protocol=0)
    before = now.replace(b"rmeeto.reduction.tokens", b"rmeeto.tokens")
    assert before != now
    with pytest.warns(DeprecationWarning, match=r"rmeeto\.reduction\.tokens"):
        assert pickle.loads(before) is Tokens
