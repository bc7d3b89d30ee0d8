import json

import numpy as np
import pytest

from rmeeto.analysis import (
    Better,
    Counted,
    Equal,
    Monotone,
    Printed,
    Ratio,
    Untestable,
    image_contrast,
    seed_contrast,
    verdicts,
)
from rmeeto.analysis.verdict import holm

CLAIM = Better("Merging is better than pruning.", "merging", "pruning")


def ahead(images):
    """A finding in which so many images of 1,000 speak for the claim, and none against it."""
    return CLAIM.judge({"pair": image_contrast([1] * images + [0] * (1_000 - images))})


def test_holms_correction_has_known_values():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.02]) == [0.02]
    assert holm([0.5, 0.6]) == [1, 1]
    assert holm([]) == []


def test_claims_of_a_table_share_the_level():
    assert [v.word for v in verdicts([ahead(6)])] == ["holds"]  # p = 0.031
    assert [v.word for v in verdicts([ahead(6), ahead(0)])] == ["undecided", "undecided"]
    assert [v.word for v in verdicts([ahead(6), ahead(30)])] == ["holds", "holds"]
    assert [v.p for v in verdicts([ahead(6), ahead(7)])] == pytest.approx([1 / 32, 1 / 32])


def test_sentences_tell_of_the_correction():
    assert verdicts([ahead(6)])[0].sentence.endswith("exact McNemar test, p = 0.0312).")
    corrected = verdicts([ahead(6), ahead(8)])[0]
    assert corrected.sentence.endswith("exact McNemar test, p = 0.0312 after Holm's correction for 2 claims).")
    assert corrected.corrected_for == 2


def test_claims_that_could_not_be_decided_do_not_count():
    three_seeds = CLAIM.judge({"pair": seed_contrast([3.0, 3.1, 3.2])})
    printed = Printed("x").judge({"cell": (1.2846, "1.28")})
    absent = Untestable(CLAIM, "There is no Vim-B at this scale.")
    found = verdicts([three_seeds, ahead(6), printed, absent])
    assert [v.word for v in found] == ["undecided", "holds", "holds", "not testable here"]
    assert [v.corrected_for for v in found] == [1, 1, None, None]
    assert [v.decidable for v in found] == [False, True, True, True]
    assert found[3].sentence == "There is no Vim-B at this scale."


def test_the_correction_is_named_where_it_is_all_that_is_in_the_way():
    alone, (first, second) = verdicts([ahead(6)])[0], verdicts([ahead(6), ahead(0)])
    assert alone.word == "holds"
    assert first.sentence.startswith(
        "Merging minus pruning is 0.6 points, which points towards the claim, "
        "but not surely after the correction for 2 claims ("
    )
    assert "decides neither way" in second.sentence
    against = Better("x", "pruning", "merging").judge({"pair": image_contrast([-1] * 6 + [0] * 994)})
    assert verdicts([against, ahead(0), ahead(0)])[0].sentence.startswith(
        "Pruning minus merging is −0.6 points, which points against the claim, "
        "but not surely after the correction for 3 claims ("
    )


@pytest.mark.parametrize(("holds", "word"), [(True, "holds"), (False, "does not hold"), (None, "undecided")])
def test_what_is_counted_has_no_p_value_and_takes_part_in_no_correction(holds, word):
    counted, other = verdicts([Counted(CLAIM, holds, "It was counted.", {}), ahead(6)])
    assert (counted.word, counted.sentence, counted.p, counted.decidable) == (word, "It was counted.", None, True)
    assert (other.word, other.corrected_for) == ("holds", 1)


def test_three_seeds_take_part_where_they_can_decide():
    equal = Equal("x", "a", "b").judge({"pair": seed_contrast([0.1, 0.3, -0.2])})
    assert [v.corrected_for for v in verdicts([equal, ahead(6)])] == [2, 2]


@pytest.mark.parametrize(
    ("left", "start"),
    [
        ("merging", "Merging is"),
        ("merge, window 1", "Merge, window 1 is"),
        ("r=5", "r=5 is"),
        ("X", "X is"),
        ("merge:r=5 with sizes", "merge:r=5 w"),
    ],
)
def test_a_name_at_the_start_of_a_sentence_stays_what_it_is(left, start):
    finding = Better("x", left, "pruning").judge({"pair": image_contrast([1] * 50)})
    assert verdicts([finding])[0].sentence.startswith(start)


def test_an_empty_table_has_no_verdicts():
    assert verdicts([]) == []


def table():
    rng = np.random.default_rng(11)
    correct = rng.random((3, 500)) < np.array([[0.62], [0.6], [0.55]])
    return [
        ahead(20),
        Equal("equal", "a", "b").judge({"one": seed_contrast([0.1]), "three": seed_contrast([0.1, 0.2, 0.3])}),
        Monotone("monotone", "falls").judge(dict(zip("abc", correct, strict=True)), "image"),
        Ratio("ratio", 1.2).judge([12.0], [10.0]),
        Printed("printed").judge({"cell": (1.2846, "1.28"), "other": (2, "3")}),
        Untestable(Monotone("absent", "rises"), "Not at this scale."),
    ]


def test_verdicts_are_json_without_infinities():
    texts = [json.dumps(v.to_dict(), allow_nan=False) for v in verdicts(table())]
    first = json.loads(texts[0])
    assert set(first) == {"claim", "kind", "word", "sentence", "p", "corrected_for", "decidable", "figures"}
    assert first["figures"]["pair"]["unit"] == "image"
    assert json.loads(texts[1])["figures"]["one"]["low"] is None
    assert [json.loads(text)["kind"] for text in texts] == [
        "better",
        "equal",
        "monotone",
        "ratio",
        "printed",
        "monotone",
    ]


def test_verdicts_are_the_same_every_time():
    assert [v.to_dict() for v in verdicts(table())] == [v.to_dict() for v in verdicts(table())]


def test_the_order_of_the_claims_changes_nothing():
    assert verdicts(table())[::-1] == verdicts(table()[::-1])


def test_fifty_thousand_images_need_a_short_grid():
    images = np.random.default_rng(0).choice([1, 0, -1], p=[0.06, 0.9, 0.04], size=50_000)
    finding = CLAIM.judge({"pair": image_contrast(images)})
    assert len(image_contrast(images).mean.chances) < 10_000
    assert verdicts([finding])[0].word == "holds"
