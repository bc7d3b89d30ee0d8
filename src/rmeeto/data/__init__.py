"""Labelled images and clips: where they come from, how they are prepared, in which order they are drawn."""

from rmeeto.data.loader import evaluation_batches, training_batches, training_indices
from rmeeto.data.media import CLIPS, IMAGES
from rmeeto.data.open import open_data
from rmeeto.data.reading import evaluation_reading, training_reading
from rmeeto.data.samples import Batch
from rmeeto.data.sampling import ONE_VIEW, Views
from rmeeto.data.source import ImageSource, Source, Split, check_classes, fingerprint
from rmeeto.data.transforms import Preparation, evaluation_transform, training_transform

__all__ = [
    "CLIPS",
    "IMAGES",
    "ONE_VIEW",
    "Batch",
    "ImageSource",
    "Preparation",
    "Source",
    "Split",
    "Views",
    "check_classes",
    "evaluation_batches",
    "evaluation_reading",
    "evaluation_transform",
    "fingerprint",
    "open_data",
    "training_batches",
    "training_indices",
    "training_reading",
    "training_transform",
]
