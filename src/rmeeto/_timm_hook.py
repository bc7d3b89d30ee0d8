"""Registers our models with timm as soon as both are imported, in whichever order, without importing timm ourselves.

timm takes seconds to import and has no entry points for other packages' models. So ``import rmeeto`` leaves a finder
that waits for ``import timm``, steps aside, and registers once timm has loaded.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType


class WhenTimmLoads(importlib.abc.MetaPathFinder):
    """Finds ``timm`` as usual, with registration appended to its loading; removes itself at the first use."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Only ``timm`` itself is of interest."""
        if name != "timm":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_and_register(module: ModuleType) -> None:
                load(module)
                _register()

            spec.loader.exec_module = load_and_register  # type: ignore[method-assign]
        return spec


def _register() -> None:
    from rmeeto.models.timm_registry import register_with_timm

    register_with_timm()


def install() -> None:
    """Register now if timm is loaded, else when it is."""
    if "timm" in sys.modules:
        _register()
    else:
        sys.meta_path.insert(0, WhenTimmLoads())
