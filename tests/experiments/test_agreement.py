"""Verdicts about mutual information: estimators must agree."""

import numpy as np
import pytest

from experiment_results import estimated
from rmeeto.analysis import Better, seed_contrast, verdicts
from rmeeto.errors import ConfigError
from rmeeto.experiments.agreement import judge_nats
from rmeeto.experiments.definition import load_table, parse_table
from rmeeto.experiments.judge import judge
from rmeeto.experiments.plan import places
from rmeeto.experiments.scale import load_scale
from rmeeto.experiments.store import Store
from rmeeto.experiments.strongest import strongest
from rmeeto.experiments.summary import summary

SMALL, DATA = load_scale("small"), {"images": "abc", "clips": None}
TABLE = load_table("fig2iii")
ESTIMATORS = ("mine", "infonce", "ksg")


def filled(folder, mamba, transformer, seeds=6, table=TABLE):
    """A store in which each side has these nats by estimator, more or less; merging has what the whole model has."""
    store = Store(folder)
    for place in places(table, SMALL, DATA, seeds):
        for cell in place.cells:
            noise = np.random.default_rng(int(cell.key, 16) % 2**32).normal(0, 0.02, 3)
            nats = mamba if cell.model == "vim_small" else transformer
            nats = [value * (0.5 if "prune" in cell.reduction else 1) for value in nats]
            own = {name: (a + b, a - b) for name, a, b in zip(ESTIMATORS, nats, noise, strict=True)}
            own = {name: [value + cell.seed / 50 + noise[0] for value in values] for name, values in own.items()}
            store._results[cell.key] = estimated(cell, own)  # files take longer than all the rest
    return store


def claims(store, seeds=6, table=TABLE):
    return judge(table, list(places(table, SMALL, DATA, seeds)), store)


def test_a_difference_on_which_all_agree_is_found(tmp_path):
    first, second = claims(filled(tmp_path, (2.0, 3.0, 1.0), (1.5, 2.0, 0.8)))
    assert (first.word, second.word) == ("holds", "holds")
    assert first.sentence.startswith("vim_small minus deit_small is above 0 nats by all 3 estimates: MINE 0.")
    assert "6 seeds" in first.sentence
    assert "point" not in first.sentence
    assert list(first.verdict.figures) == ["MINE", "InfoNCE", "KSG on projections"]


def test_a_claim_that_all_refute_does_not_hold(tmp_path):
    first, _ = claims(filled(tmp_path, (1.5, 2.0, 0.8), (2.0, 3.0, 1.0)))
    assert first.word == "does not hold"
    assert "below 0 nats by all 3 estimates: MINE −0." in first.sentence


@pytest.mark.parametrize("transformer", [(1.5, 2.0, 1.2), (2.5, 3.4, 0.8)])
def test_one_estimator_that_disagrees_leaves_a_claim_undecided(tmp_path, transformer):
    """Whichever way the others go, and however sure each of them is."""
    first, _ = claims(filled(tmp_path, (2.0, 3.0, 1.0), transformer))
    assert first.word == "undecided"
    assert "the estimates disagree on the sign" in first.sentence


def judged(**nats):
    """The verdict on estimates given as differences by seed."""
    claim = Better("More.", "one", "other")
    return verdicts([judge_nats(claim, {name: seed_contrast(values) for name, values in nats.items()})])[0]


NOTHING, MORE = [0.001, -0.002, 0.003, -0.001, 0.002, -0.003], [0.5, 0.6, 0.4, 0.55, 0.45, 0.5]
LESS = [-value for value in MORE]


def test_estimates_near_zero_do_not_disagree():
    found = judged(a=NOTHING, b=[-value for value in NOTHING], c=[-0.004, 0.003, 0.002, -0.001, 0.002, -0.003])
    assert found.word == "undecided"
    assert found.sentence.startswith(
        "One minus other is a 0.00, b 0.00, c 0.00 nats, and no estimate finds a difference ("
    )


def test_estimates_that_alone_find_a_difference_are_named():
    assert "nats, and only b finds a difference (" in judged(a=NOTHING, b=MORE, c=NOTHING).sentence
    assert "nats, and only b and c find a difference (" in judged(a=NOTHING, b=LESS, c=LESS).sentence
    assert "nats, and the estimates disagree on the sign (" in judged(a=NOTHING, b=MORE, c=LESS).sentence
    assert "nats, which decides neither way (" in judged(a=NOTHING).sentence


def test_estimates_that_all_agree_say_what_is_in_the_way():
    assert (
        "a 0.50, b 0.50 nats, which points towards the claim, but 3 seeds cannot decide: it takes 6 (a: 95 %"
    ) in judged(a=MORE[:3], b=MORE[:3]).sentence
    assert "nats, which points against the claim, but 3 seeds cannot decide" in judged(a=LESS[:3]).sentence
    assert "and no estimate finds a difference; 3 seeds cannot decide" in judged(a=NOTHING[:3], b=NOTHING[:3]).sentence
    one = judged(a=MORE[:1], b=MORE[:1])
    assert one.sentence.endswith("and no estimate finds a difference; 1 seed cannot decide: it takes 6 (a: 1 seed).")


def test_three_seeds_decide_nothing(tmp_path):
    first, _ = claims(filled(tmp_path, (2.0, 3.0, 1.0), (1.5, 2.0, 0.8), seeds=3), seeds=3)
    assert first.word == "undecided"
    assert "3 seeds cannot decide" in first.sentence


def test_figures_are_means_over_draws_and_seeds(tmp_path):
    store = filled(tmp_path, (2.0, 3.0, 1.0), (1.5, 2.0, 0.8))
    whole = summary(TABLE, SMALL, DATA, store)
    figures = {figure.ours for figure in whole.figures[3]}
    assert sorted(round(value) for value in figures) == [1, 2, 3]
    assert whole.figures[3][0].ours == pytest.approx(2.0 + 2.5 / 50, abs=0.03)
    assert whole.figures[3][0].n == 6
    assert whole.complete


def test_nats_are_not_ranked_among_points(tmp_path):
    whole = summary(TABLE, SMALL, DATA, filled(tmp_path, (20.0, 30.0, 10.0), (1.5, 2.0, 0.8)))
    assert strongest([whole], "holds", 4) == []


def test_estimates_take_no_other_kind_of_claim(tmp_path):
    text = 'title="T"\nplace="P"\nsection="3"\nsmall="s"\nseeds=6\n[[column]]\nkey="mine"\ntitle="M"\nmeasure="nats"\n'
    text += '[[row]]\nmodel="vim_small"\nreduction="none"\n[[row]]\nmodel="deit_small"\nreduction="none"\n'
    text += '[[claim]]\ntext="C"\nkind="equal"\nmargin=0.5\nleft={model="vim_small"}\nright={model="deit_small"}\n'
    table = parse_table("toy", text)
    with pytest.raises(ConfigError, match="estimates can be compared"):
        claims(filled(tmp_path, (2.0, 3.0, 1.0), (1.5, 2.0, 0.8), table=table), table=table)


@pytest.mark.parametrize("name", ["fig4", "fig5"])
def test_claims_about_pictures_are_not_counted(name, tmp_path):
    (one,) = claims(Store(tmp_path), table=load_table(name))
    assert (one.word, one.sentence) == ("not testable here", "Pictures are looked at, not counted.")
