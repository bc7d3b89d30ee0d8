"""The Triton kernels by name. A module of its own, because a process that is started for them imports it by name."""

import importlib

PACKAGE = "rmeeto.ops.impl.triton"


def call_kernel(name, *args, **kwargs):
    """Import and run; in the interpreter's process the import brings the interpreted kernels."""
    return getattr(importlib.import_module(PACKAGE), name)(*args, **kwargs)


def are_interpreted():
    return importlib.import_module(f"{PACKAGE}.launch").interpreted()
