"""Pictures of merged tokens: every group of patches in its mean colour, as in the paper's Figures 4 and 5."""

from rmeeto.viz.groups import clip_groups, draw_clip_groups, patch_groups
from rmeeto.viz.rows import (
    Panel,
    Row,
    as_seen,
    merged_clip_groups,
    merged_groups,
    moments,
    reducing_blocks,
    strip,
    typical_blocks,
)
from rmeeto.viz.sheet import check_format, figure, is_animation, save_animation, save_figure

__all__ = [
    "Panel",
    "Row",
    "as_seen",
    "check_format",
    "clip_groups",
    "draw_clip_groups",
    "figure",
    "is_animation",
    "merged_clip_groups",
    "merged_groups",
    "moments",
    "patch_groups",
    "reducing_blocks",
    "save_animation",
    "save_figure",
    "strip",
    "typical_blocks",
]
