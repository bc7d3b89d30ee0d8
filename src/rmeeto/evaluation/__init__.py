"""What a model is worth: its accuracy, its predictions, and the rows and results that compare several."""

from rmeeto.evaluation.accuracy import Evaluation, Spent, evaluate, mean_over_views

__all__ = ["Evaluation", "Spent", "evaluate", "mean_over_views"]
