"""Re-training: the loop, what it saves, and the table it ends in."""

from rmeeto.training.retraining import retrain, train

__all__ = ["retrain", "train"]
