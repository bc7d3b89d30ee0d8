from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from rmeeto.analysis import Printed, verdicts
from rmeeto.errors import ConfigError

CLAIM = Printed("The FLOPs are those of Table 2.")


def agrees(counted, printed):
    return CLAIM.judge({"cell": (counted, printed)}).holds


@pytest.mark.parametrize(
    ("counted", "printed", "same"),
    [
        (1.2846, "1.28", True),
        (1.2846, "1.29", False),
        (3.585, "3.58", True),  # half-way, and its binary value lies below
        (3.585, "3.59", True),
        (3.5851, "3.58", False),
        (0.15, "0.1", True),
        (np.float32(0.15), "0.2", True),
        (np.float64(18.868), "18.87", True),
        (126, "126", True),
        (126, "127", False),
        (np.int64(126), "126", True),
        (126.5, "127", True),
        (126, "126.0", True),
        (Fraction(2, 3), "0.67", True),
        (Fraction(2, 3), "0.66", False),
        (Decimal("0.985"), "0.98", True),
        (1_281_167, "1,281,167", True),
        (-0.8, "−0.8", True),
        (5.08e9, "5.1e9", True),
        (5.08e9, "5.0e9", False),
    ],
)
def test_a_figure_rounds_to_the_printed_one(counted, printed, same):
    assert agrees(counted, printed) is same


def test_the_first_wrong_figure_is_named():
    found = CLAIM.judge({"Vim-Ti": (1.2846, "1.28"), "Vim-S": (3.61, "3.58"), "Vim-B": (13.3, "13.21")})
    assert not found.holds
    assert found.sentence == "2 of 3 figures differ; Vim-S is 3.61 as counted, 3.58 as printed."
    assert [figure.agrees for figure in found.figures.values()] == [True, False, False]


def test_a_counted_verdict_has_no_p_value():
    found = verdicts([CLAIM.judge({"Vim-Ti": (1.2846, "1.28"), "Vim-S": (3.5846, "3.58")})])[0]
    assert (found.word, found.p, found.corrected_for) == ("holds", None, None)
    assert found.sentence == "All 2 counted figures round to what is printed."


@pytest.mark.parametrize("printed", ["", "-", "nan", "inf", "3.58 G", 3.58, None])
def test_what_is_printed_is_a_number_as_text(printed):
    with pytest.raises(ConfigError, match="number as text"):
        agrees(3.58, printed)


@pytest.mark.parametrize("counted", [float("nan"), float("inf"), True, "3.58", None, Decimal("NaN")])
def test_what_is_counted_is_a_number(counted):
    with pytest.raises(ConfigError, match="no finite number"):
        agrees(counted, "3.58")


def test_no_figures_are_no_verdict():
    with pytest.raises(ConfigError, match="no comparisons"):
        CLAIM.judge({})
