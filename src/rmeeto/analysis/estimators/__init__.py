"""Estimators of mutual information from samples, each with what biases it."""

from rmeeto.analysis.estimators.critic import Training
from rmeeto.analysis.estimators.estimate import (
    ESTIMATORS,
    Estimate,
    Estimator,
    as_estimator,
    as_estimators,
    mutual_information,
)
from rmeeto.analysis.estimators.neighbours import KSG, nearest_neighbours
from rmeeto.analysis.estimators.neural import MINE, SMILE, InfoNCE
from rmeeto.analysis.estimators.samples import Samples, samples

__all__ = [
    "ESTIMATORS",
    "KSG",
    "MINE",
    "SMILE",
    "Estimate",
    "Estimator",
    "InfoNCE",
    "Samples",
    "Training",
    "as_estimator",
    "as_estimators",
    "mutual_information",
    "nearest_neighbours",
    "samples",
]
