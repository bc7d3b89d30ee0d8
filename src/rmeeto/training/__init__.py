"""Re-training: the loop, what it saves, and the table it ends in; and how fast its steps are."""

from rmeeto.training.measured import load_throughput
from rmeeto.training.measuring import measure_throughput
from rmeeto.training.retraining import retrain, train

__all__ = ["load_throughput", "measure_throughput", "retrain", "train"]
