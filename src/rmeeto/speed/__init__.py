"""How fast a model is, whether its reduction pays here, how a rival does, and what training takes on many GPUs."""

from rmeeto.speed.against import bench_against
from rmeeto.speed.crossover import AgainstReport, Timing
from rmeeto.speed.forecast import Forecast, forecast
from rmeeto.speed.links import BETWEEN, INSIDE, Machines, all_reduce_seconds
from rmeeto.speed.minutes import Job, Minutes, Reading, calibrate, doublings, placed, predict
from rmeeto.speed.reading_rate import reading_rate
from rmeeto.speed.report import BenchReport, Measurement, Spread, verdict
from rmeeto.speed.run import bench
from rmeeto.speed.table3 import paper_minutes, why_not_table_3
from rmeeto.speed.throughput import Throughput, parameters_of, scaled

__all__ = [
    "BETWEEN",
    "INSIDE",
    "AgainstReport",
    "BenchReport",
    "Forecast",
    "Job",
    "Machines",
    "Measurement",
    "Minutes",
    "Reading",
    "Spread",
    "Throughput",
    "Timing",
    "all_reduce_seconds",
    "bench",
    "bench_against",
    "calibrate",
    "doublings",
    "forecast",
    "paper_minutes",
    "parameters_of",
    "placed",
    "predict",
    "reading_rate",
    "scaled",
    "verdict",
    "why_not_table_3",
]
