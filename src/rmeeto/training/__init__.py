"""Re-training: the loop, what it saves, and the table it ends in."""

from rmeeto.training.run import retrain

__all__ = ["retrain"]
