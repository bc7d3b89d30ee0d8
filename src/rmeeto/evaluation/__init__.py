"""Accuracy and predictions of a model, and the tables that compare several models."""

from rmeeto.evaluation.accuracy import Evaluation, Spent, evaluate, mean_over_views

__all__ = ["Evaluation", "Spent", "evaluate", "mean_over_views"]
