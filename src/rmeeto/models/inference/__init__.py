"""Faster ways through a frozen model, and what stops each of them.

:func:`~rmeeto.models.inference.freezing.freeze` installs executors from here in a model and in its blocks. They know
the models; no model imports anything from here.
"""
