"""Claims of small tables on stores with planted results."""

from zlib import crc32

import numpy as np
import pytest

from experiment_results import result_of
from rmeeto.experiments.definition import parse_table
from rmeeto.experiments.judge import judge
from rmeeto.experiments.plan import places
from rmeeto.experiments.scale import load_scale
from rmeeto.experiments.store import Speed, Store
from rmeeto.experiments.summary import overall, summary, undecidable

SMALL, DATA = load_scale("small"), {"images": "abc", "clips": None}
TABLE = """
title = "T"
place = "Table 0"
section = "3"
small = "the same"
seeds = 6

[[column]]
key = "free"
title = "training-free"

[[column]]
key = "trained"
title = "re-trained"
training = "minutes"

[[row]]
model = "vim_tiny"
reduction = "merge:{amount}"
labels = { method = "merging" }

[[row]]
model = "vim_tiny"
reduction = "prune:{amount}"
labels = { method = "pruning" }

[[row]]
model = "vim_small"
reduction = "merge:{amount}"
labels = { method = "merging" }

[[row]]
model = "vim_small"
reduction = "prune:{amount}"
labels = { method = "pruning" }
"""
MERGING = 'text = "C"\nkind = "better"\nleft = { method = "merging" }\nright = { method = "pruning" }\n'


def judged(tmp_path, claim, accuracy, images=2000, seeds=None):
    """The verdict on one claim if each place has the planted accuracy, a share. The same images are hard for all."""
    table = parse_table("toy", f"{TABLE}\n[[claim]]\n{claim}")
    found = list(places(table, SMALL, DATA, seeds))
    store = Store(tmp_path)
    for place in found:
        for cell in place.cells:
            noise = np.random.default_rng(7 + cell.seed)
            ease = noise.random(images)
            own, alone = np.random.default_rng(crc32(f"{place.coordinates} {cell.seed}".encode())).random((2, images))
            share = accuracy(place.coordinates) + 0.002 * cell.seed
            store.add(cell, result_of(cell, np.where(alone < 0.2, own, ease) < share))
    (one,) = judge(table, found, store)
    return one.verdict


def by_method(merging, pruning):
    return lambda where: merging if where["method"] == "merging" else pruning


@pytest.mark.parametrize(
    ("accuracies", "word"), [((0.6, 0.5), "holds"), ((0.5, 0.6), "does not hold"), ((0.55, 0.55), "undecided")]
)
@pytest.mark.parametrize("column", ["free", "trained"])
def test_planted_differences_are_found_by_image_and_by_seed(tmp_path, accuracies, word, column):
    verdict = judged(tmp_path, f'{MERGING}where = {{ column = "{column}" }}', by_method(*accuracies))
    assert verdict.word == word
    assert ("images" if column == "free" else "6 seeds") in verdict.sentence


def test_one_pair_that_goes_the_other_way_refutes_a_claim_about_all(tmp_path):
    def accuracy(where):
        better = (where["method"] == "merging") == (where["model"] == "vim_tiny")
        return 0.6 if better else 0.5

    verdict = judged(tmp_path, f'{MERGING}where = {{ column = "free" }}', accuracy)
    assert verdict.word == "does not hold"
    assert "vim_small" in verdict.sentence


@pytest.mark.parametrize(("merging", "word"), [(0.58, "holds"), (0.5, "does not hold")])
def test_a_negative_margin_is_what_the_left_side_may_lose(tmp_path, merging, word):
    claim = f'{MERGING}where = {{ column = "free" }}\nmargin = -5.0'
    verdict = judged(tmp_path, claim, by_method(merging, 0.6))
    assert verdict.word == word
    assert "margin of −5" in verdict.sentence


def test_where_chooses_the_cells_that_take_part(tmp_path):
    def accuracy(where):
        better = (where["method"] == "merging") == (where["model"] == "vim_tiny")
        return 0.6 if better else 0.5

    claim = f'{MERGING}where = {{ column = "free", model = "vim_tiny" }}'
    assert judged(tmp_path, claim, accuracy).word == "holds"


def test_a_difference_of_differences_is_judged(tmp_path):
    def accuracy(where):
        if where["method"] == "merging":
            return 0.7
        return 0.4 if where["model"] == "vim_tiny" else 0.65

    claim = f'{MERGING}where = {{ column = "free", model = "vim_tiny" }}\nagainst = {{ model = "vim_small" }}'
    verdict = judged(tmp_path, claim, accuracy)
    assert verdict.word == "holds"
    (figures,) = verdict.figures.values()
    assert figures["difference"] == pytest.approx(25, abs=3)


def test_equal_accuracies_are_equal_within_the_margin(tmp_path):
    claim = MERGING.replace("better", "equal") + 'margin = 2.0\nwhere = { column = "trained" }'
    assert judged(tmp_path, claim, by_method(0.5, 0.501), images=20_000).word == "holds"


def test_the_sides_of_a_claim_can_be_columns(tmp_path):
    claim = 'text = "C"\nkind = "better"\nleft = { column = "trained" }\nright = { column = "free" }'
    assert judged(tmp_path, claim, lambda where: 0.6 if where["column"] == "trained" else 0.4).word == "holds"


def test_three_seeds_decide_nothing(tmp_path):
    verdict = judged(tmp_path, f'{MERGING}where = {{ column = "trained" }}', by_method(0.9, 0.1), seeds=3)
    assert verdict.word == "undecided"
    assert "3 seeds cannot decide" in verdict.sentence


def test_a_claim_waits_for_its_cells_and_the_others_do_not(tmp_path):
    claims = f'[[claim]]\n{MERGING}where = {{ column = "free" }}\n[[claim]]\n{MERGING}where = {{ column = "trained" }}'
    table, store = parse_table("toy", f"{TABLE}\n{claims}"), Store(tmp_path)
    for place in places(table, SMALL, DATA):
        for cell in place.cells:
            if cell.work == "free":
                store.add(cell, result_of(cell, [True, False] * 50))
    whole = summary(table, SMALL, DATA, store)
    assert [one.waiting for one in whole.judged] == [0, 24]
    assert (whole.cells, whole.done, whole.complete) == (28, 4, False)
    assert overall([whole]) == {"undecided": 1, "not run yet": 1}


def test_a_model_that_the_scale_lacks_is_not_testable_and_says_why(tmp_path):
    text = TABLE.replace("vim_tiny", "vim_base").replace("vim_small", "videomamba_base") + f"\n[[claim]]\n{MERGING}"
    table = parse_table("toy", text)
    (one,) = judge(table, list(places(table, SMALL, DATA)), Store(tmp_path))
    assert one.verdict.word == "not testable here"
    assert "vim_base" in one.verdict.sentence


def test_a_speed_up_is_judged_by_the_rounds_measured_in_turns(tmp_path):
    text = """
title = "T"
place = "Table 0"
section = "3"
small = "the same"
[[column]]
key = "speed"
title = "images/s"
measure = "images_per_second"
[[row]]
model = "vim_tiny"
reduction = "merge:{amount}"
labels = { method = "merged" }
[[row]]
model = "vim_tiny"
reduction = "none"
labels = { method = "whole" }
[[claim]]
text = "C"
kind = "ratio"
left = { method = "merged" }
right = { method = "whole" }
value = 1.2
margin = 0.1
"""
    table, store = parse_table("toy", text), Store(tmp_path)
    found = list(places(table, SMALL, DATA))
    rates = [100 + 10 * np.sin(number) for number in range(20)]  # the machine drifts, the ratio does not
    for place, gain in zip(found, (1.21, 1.0), strict=True):
        fast = tuple(gain * rate * (1 + 0.01 * (number % round(3 * gain))) for number, rate in enumerate(rates))
        store.add(place.cells[0], result_of(place.cells[0], speed=Speed(32, fast, tuple(rates))))
    (one,) = judge(table, found, store)
    assert one.verdict.word == "holds"
    assert "1.2" in one.verdict.sentence


@pytest.mark.parametrize(("gain", "verdict"), [(2.0, "holds"), (0.5, "does not hold"), (1.01, "undecided")])
def test_two_models_timed_apart_differ_if_their_quartiles_do(tmp_path, gain, verdict):
    text = """
title = "T"
place = "Table 0"
section = "3"
small = "the same"
[[column]]
key = "speed"
title = "images/s"
measure = "images_per_second"
[[row]]
model = "vim_tiny"
reduction = "none"
[[row]]
model = "vim_small"
reduction = "none"
[[claim]]
text = "C"
kind = "better"
left = { model = "vim_tiny" }
right = { model = "vim_small" }
"""
    table, store = parse_table("toy", text), Store(tmp_path)
    found = list(places(table, SMALL, DATA))
    for place, speed in zip(found, (gain, 1.0), strict=True):
        rounds = tuple(speed * (100 + 5 * np.sin(number)) for number in range(20))
        store.add(place.cells[0], result_of(place.cells[0], speed=Speed(32, rounds, rounds)))
    (one,) = judge(table, found, store)
    assert one.verdict.word == verdict
    assert one.verdict.p is None
    assert "p =" not in one.sentence
    assert undecidable([summary(table, SMALL, DATA, store)]) == 0, "more repetitions are not what it lacks"
    if verdict == "undecided":
        assert one.sentence.startswith("The rounds overlap (vim_tiny: 101 images/s, quartiles ")


@pytest.mark.parametrize(("column", "unit"), [("free", "2,000 images"), ("trained", "6 seeds")])
def test_two_models_are_compared_by_image_unless_they_are_re_trained(tmp_path, column, unit):
    claim = 'text = "C"\nkind = "better"\nleft = { model = "vim_small" }\nright = { model = "vim_tiny" }'
    claim += f'\nwhere = {{ column = "{column}" }}'
    verdict = judged(tmp_path, claim, lambda where: 0.6 if where["model"] == "vim_small" else 0.5)
    assert verdict.word == "holds"
    assert unit in verdict.sentence


def test_table_3_is_predicted_from_its_first_row():
    from rmeeto.experiments.definition import load_table

    table = load_table("3")
    for place in places(table, SMALL, DATA):
        assert place.counted == pytest.approx(place.row.printed["minutes"], rel=0.15)
        if place.row.coordinates["machines"] == 1:
            assert place.counted == pytest.approx(place.row.printed["minutes"], rel=1e-6)


def test_predicted_minutes_test_no_claim(tmp_path):
    from rmeeto.experiments.definition import load_table

    table = load_table("3")
    (one,) = judge(table, list(places(table, SMALL, DATA)), Store(tmp_path))
    assert one.verdict.word == "not testable here"


def test_one_training_of_each_decides_nothing_however_many_images(tmp_path):
    verdict = judged(tmp_path, f'{MERGING}where = {{ column = "trained" }}', by_method(0.9, 0.1), seeds=1)
    assert verdict.word == "undecided"


def test_published_weights_stand_beside_several_trainings(tmp_path):
    claim = 'text = "C"\nkind = "better"\nleft = { column = "trained" }\nright = { column = "free" }'
    table = parse_table("toy", f"{TABLE}\n[[claim]]\n{claim}")
    found, store = list(places(table, load_scale("full"), DATA)), Store(tmp_path)
    for place in found:
        for cell in place.cells:
            share = (0.7 if cell.work == "trained" else 0.4) + 0.01 * cell.seed
            store.add(cell, result_of(cell, np.arange(1000) < 1000 * share))
    (one,) = judge(table, found, store)
    assert one.verdict.word == "holds"
    assert "6 seeds" in one.verdict.sentence
