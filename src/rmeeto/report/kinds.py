"""Whether a run was about images or clips."""

from __future__ import annotations

from rmeeto.data.media import CLIPS, IMAGES, Kind
from rmeeto.errors import RmeetoError
from rmeeto.models.description import describe
from rmeeto.recipe import Recipe


def kind_of(recipe: Recipe) -> Kind:
    """What the recipe's model takes; images if the model's folder no longer exists."""
    frames = dict(recipe.model_options).get("frames")
    if frames is None:
        try:
            frames = getattr(describe(recipe.model).config, "frames", 1)
        except RmeetoError:
            frames = 1
    return CLIPS if isinstance(frames, int) and frames > 1 else IMAGES
