"""Accuracy and predictions of a model, and the tables that compare several models."""

from rmeeto.evaluation.accuracy import Evaluation, Spent, evaluate, mean_over_views
from rmeeto.evaluation.prediction import Prediction, find_files, predict

__all__ = ["Evaluation", "Prediction", "Spent", "evaluate", "find_files", "mean_over_views", "predict"]
