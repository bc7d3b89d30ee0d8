"""The report of a run: one self-contained HTML page."""

from rmeeto.report.page import report
from rmeeto.report.table import timed

__all__ = ["report", "timed"]
