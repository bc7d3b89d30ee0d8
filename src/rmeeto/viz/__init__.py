"""Pictures of merged tokens: every group of patches in its mean colour, as in the paper's Figures 4 and 5."""

from rmeeto.viz.groups import (
    DROPPED,
    borders,
    clip_groups,
    draw_clip_groups,
    draw_groups,
    mean_colours,
    over_pixels,
    patch_groups,
)
from rmeeto.viz.rows import (
    Clip,
    Panel,
    Row,
    Track,
    merged_clip_groups,
    merged_groups,
    moments,
    reducing_blocks,
    strip,
    typical_blocks,
)
from rmeeto.viz.sheet import check_format, figure, is_animation, save_animation, save_figure

__all__ = [
    "DROPPED",
    "Clip",
    "Panel",
    "Row",
    "Track",
    "borders",
    "check_format",
    "clip_groups",
    "draw_clip_groups",
    "draw_groups",
    "figure",
    "is_animation",
    "mean_colours",
    "merged_clip_groups",
    "merged_groups",
    "moments",
    "over_pixels",
    "patch_groups",
    "reducing_blocks",
    "save_animation",
    "save_figure",
    "strip",
    "typical_blocks",
]
