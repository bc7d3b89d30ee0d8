"""Which claims lead the page: the clearest, one of a table, and no comparison twice."""

from dataclasses import dataclass

import pytest

from rmeeto.analysis import Verdict
from rmeeto.experiments.definition import Claim, Column
from rmeeto.experiments.judge import Judged
from rmeeto.experiments.strongest import strongest


@dataclass
class Table:
    columns: tuple[Column, ...] = (Column("free", "training-free"),)


@dataclass
class Summary:
    """What is read of a table."""

    judged: tuple[Judged, ...]
    table: Table


def judged(text, *intervals, kind="better", word="holds", margin=0.0, rises=False, names=("a", "b")):
    claim = Claim(text, kind, {}, {}, {}, {}, margin=margin, rises=rises)
    figures = {
        name: {"n": 300, "difference": (low + high) / 2, "low": low, "high": high, "margin": margin}
        for name, (low, high) in zip(names, intervals, strict=False)
    }
    return Judged(claim, Verdict(text, kind, word, "", figures=figures))


def chosen(tables, word="holds", most=4, told=()):
    summaries = [Summary(tuple(claims), Table()) for claims in tables]
    return [one.judged[number].claim.text for one, number in strongest(summaries, word, most, told)]


def test_the_nearest_pair_counts_if_all_must_agree_and_the_farthest_if_one_refutes():
    assert chosen([[judged("A", (9, 10), (1, 2))], [judged("B", (3, 4), (5, 6))]]) == ["B", "A"]
    fails = [[judged("A", (-4, -3), (5, 6), word="does not hold")], [judged("B", (-3, -2), word="does not hold")]]
    assert chosen(fails, "does not hold") == ["A", "B"]


def test_a_table_gives_one_claim_and_the_list_ends():
    tables = [[judged("A", (9, 10)), judged("B", (8, 9))], [judged("C", (1, 2))]]
    assert chosen(tables) == ["A", "C"]
    assert chosen(tables, most=1) == ["A"]


def test_a_comparison_is_quoted_once_whichever_claim_makes_it():
    first, again = judged("A", (9, 10), (12, 13)), judged("B", (9, 10), (11, 12))
    reverse = judged("C", (-10, -9), word="does not hold")
    assert chosen([[first], [again], [judged("D", (1, 2))]]) == ["A", "D"]
    assert chosen([[first], [reverse]], "does not hold", told=[first]) == []
    assert chosen([[first], [reverse]], "does not hold") == ["C"]


def test_if_a_tables_clearest_claim_is_told_already_its_next_one_stands_in():
    again = [judged("B", (9, 10)), judged("C", (7, 8))]
    assert chosen([[judged("A", (9, 10))], again]) == ["A", "C"]


def test_claims_that_were_told_are_left_out():
    main = judged("A", (9, 10))
    assert chosen([[main, judged("B", (8, 9))]], told=[main]) == ["B"]


def test_equality_is_ranked_by_what_is_left_of_its_margin():
    tables = [
        [judged("A", (-0.4, 0.1), kind="equal", margin=0.5)],
        [judged("B", (-0.2, 0.1), kind="equal", margin=0.5)],
    ]
    assert chosen(tables) == ["B", "A"]
    tables = [
        [judged("A", (0.9, 2.0), kind="equal", margin=0.5, word="does not hold")],
        [judged("B", (-9.0, -1.0), kind="equal", margin=0.5, word="does not hold")],
        [judged("C", (-3.0, 3.0), (2.0, 3.0), kind="equal", margin=0.5, word="does not hold")],
    ]
    assert chosen(tables, "does not hold") == ["C", "B", "A"]


@pytest.mark.parametrize(("rises", "sign"), [(True, 1), (False, -1)])
def test_a_trend_is_ranked_in_its_direction_and_its_steps_are_not(rises, sign):
    def trend(text, low, high):
        ends = sorted((sign * low, sign * high))
        return judged(text, ends, (-1, 1), kind="monotone", rises=rises, names=("0 to 5, fitted", "0 to 1"))

    assert chosen([[trend("A", 2, 3)], [trend("B", 4, 5)]]) == ["B", "A"]


def test_what_has_no_distance_is_left_out():
    without, ratio = judged("A"), judged("B", (1, 2), kind="ratio")
    assert chosen([[without], [ratio], [Judged(ratio.claim, None, 3)]]) == []
    in_nats = Summary((judged("A", (9, 10)),), Table((Column("mine", "MINE", "nats"),)))
    assert strongest([in_nats], "holds", 4) == []
