"""How fast a model is, reduced and unreduced, and whether the reduction pays on this machine."""

from rmeeto.speed.report import BenchReport, Measurement, Spread, verdict
from rmeeto.speed.run import bench

__all__ = ["BenchReport", "Measurement", "Spread", "bench", "verdict"]
