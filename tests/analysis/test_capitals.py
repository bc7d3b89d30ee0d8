"""The start of a sentence: a capital letter, but not for what is a name or a line of a reduction."""

import pytest

from rmeeto.analysis.words import capitalised


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("merging minus pruning is 1", "Merging minus pruning is 1"),
        ("re-trained minus training-free is 1", "Re-trained minus training-free is 1"),
        ("vim_small minus vim_tiny is 1", "vim_small minus vim_tiny is 1"),
        ("r=5 minus r=11 is 1", "r=5 minus r=11 is 1"),
        ("Δ minus x is 1", "Δ minus x is 1"),
        ("100 % minus none is 1", "100 % minus none is 1"),
    ],
)
def test_a_sentence_starts_with_a_capital_letter_but_a_symbol_stays_as_it_is(said, written):
    assert capitalised(said) == written
