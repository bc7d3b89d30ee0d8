"""Tuning: a schedule for one model and one budget, found on a few images without training."""

from rmeeto.tuning.run import TuneResult, tune

__all__ = ["TuneResult", "tune"]
