"""The Triton kernels by name. A module of its own, because a process that is started for them imports it by name."""

import importlib


def call_kernel(name, *args, **kwargs):
    """Import and run; in the interpreter's process the import brings the interpreted kernels."""
    return getattr(importlib.import_module("rmeeto.ops.impl.triton"), name)(*args, **kwargs)
