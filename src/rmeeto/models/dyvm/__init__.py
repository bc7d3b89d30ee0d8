"""DyVM: a Vision Mamba that learns which tokens to keep and which scans to run, image by image.

Start at :mod:`rmeeto.models.dyvm.network`.
"""

from rmeeto.config import DynamicConfig
from rmeeto.models.dyvm.network import DynamicMamba, DynamicTrace, Rehearsal
from rmeeto.models.dyvm.saved import load_dynamic

__all__ = ["DynamicConfig", "DynamicMamba", "DynamicTrace", "Rehearsal", "load_dynamic"]
