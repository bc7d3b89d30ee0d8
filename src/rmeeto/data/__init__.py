"""Labelled images and clips: where they come from, how they are prepared, in which order they are drawn."""

from rmeeto.data.batch_plan import BatchPlan
from rmeeto.data.loader import evaluation_batches, stratified, training_batches
from rmeeto.data.media import CLIPS, IMAGES
from rmeeto.data.open import open_data
from rmeeto.data.reading import evaluation_reading, training_reading
from rmeeto.data.samples import Batch
from rmeeto.data.sampling import ONE_VIEW, ClipSampling, Views
from rmeeto.data.source import ImageSource, Source, check_classes, fingerprint
from rmeeto.data.transforms import Augmentation, Preparation, evaluation_transform

__all__ = [
    "CLIPS",
    "IMAGES",
    "ONE_VIEW",
    "Augmentation",
    "Batch",
    "BatchPlan",
    "ClipSampling",
    "ImageSource",
    "Preparation",
    "Source",
    "Views",
    "check_classes",
    "evaluation_batches",
    "evaluation_reading",
    "evaluation_transform",
    "fingerprint",
    "open_data",
    "stratified",
    "training_batches",
    "training_reading",
]
