"""What happens at imports: calls that wait for another package, and modules of ours that have moved."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
import warnings
from collections.abc import Callable, Sequence
from types import ModuleType


def when_imported(name: str, act: Callable[[], None]) -> None:
    """Call ``act`` now if module ``name`` has been imported, else when it is."""
    if name in sys.modules:
        act()
    else:
        sys.meta_path.insert(0, _Waiting(name, act))


class _Waiting(importlib.abc.MetaPathFinder):
    """Finds one module as usual, with the call appended to its loading; removes itself at the first use."""

    def __init__(self, name: str, act: Callable[[], None]) -> None:
        self.name, self.act = name, act

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Only that module is of interest."""
        if name != self.name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_and_act(module: ModuleType) -> None:
                load(module)
                self.act()

            spec.loader.exec_module = load_and_act  # type: ignore[method-assign]
        return spec


class MovedModule(ModuleType):
    """Stands in ``sys.modules`` under a former name: returns the new module's attributes, with a DeprecationWarning.

    So imports and pickles that were written for the former version still work.
    """

    def __init__(self, name: str, new_name: str) -> None:
        super().__init__(name, f"Moved to {new_name}.")
        self.new_name = new_name

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):  # what Python asks of every module, such as its path
            raise AttributeError(name)
        value = getattr(importlib.import_module(self.new_name), name)
        warnings.warn(f"{self.__name__} has moved to {self.new_name}", DeprecationWarning, stacklevel=2)
        return value
