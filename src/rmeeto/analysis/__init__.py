"""What measurements show: paired comparisons, the kinds of claims, and a verdict for each claim of a table."""

from rmeeto.analysis.better import Better
from rmeeto.analysis.comparison import Comparison, compare
from rmeeto.analysis.contrast import Contrast, Unit, by_image, by_seed, image_contrast, seed_contrast
from rmeeto.analysis.equal import Equal
from rmeeto.analysis.finding import Counted, Finding, Statement, Undecided, Untestable
from rmeeto.analysis.monotone import Monotone
from rmeeto.analysis.printed import Printed
from rmeeto.analysis.ratio import MeasuredRatio, Ratio
from rmeeto.analysis.verdict import Verdict, verdicts

__all__ = [
    "Better",
    "Comparison",
    "Contrast",
    "Counted",
    "Equal",
    "Finding",
    "MeasuredRatio",
    "Monotone",
    "Printed",
    "Ratio",
    "Statement",
    "Undecided",
    "Unit",
    "Untestable",
    "Verdict",
    "by_image",
    "by_seed",
    "compare",
    "image_contrast",
    "seed_contrast",
    "verdicts",
]
