"""Registers our models with timm as soon as both are imported, in whichever order, without importing timm ourselves.

timm takes seconds to import and has no entry points for other packages' models.
"""

from __future__ import annotations

from rmeeto.when_imported import when_imported


def _register() -> None:
    from rmeeto.models.timm_registry import register_with_timm

    register_with_timm()


def install() -> None:
    """Register now if timm is loaded, else when it is."""
    when_imported("timm", _register)
