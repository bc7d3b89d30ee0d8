import itertools

import numpy as np
import pytest

from rmeeto.analysis import by_image, compare, image_contrast, seed_contrast
from rmeeto.analysis.comparison import mcnemar, sign_flip
from rmeeto.analysis.distributions import student_tail
from rmeeto.errors import ConfigError


def test_mcnemars_test_has_known_values():
    above, below = mcnemar(8, 2)
    assert above == 56 / 1024
    assert below == 1013 / 1024
    assert mcnemar(0, 0) == (1, 1)


def test_images_of_one_pair_take_mcnemars_test():
    left = np.repeat([1, 0, 1, 0], [8, 2, 50, 40])
    right = np.repeat([0, 1, 1, 0], [8, 2, 50, 40])
    found = compare(by_image(left, right))
    assert (found.test, found.n, found.difference) == ("exact McNemar test", 100, 6)
    assert found.p_two_sided == pytest.approx(2 * 56 / 1024)
    assert found.low < 6 < found.high


@pytest.mark.parametrize(
    ("values", "margin"), [([1, 0, -1, 1, 0, 0], 0.5), ([2, 0, -1, 1, 0, 0], 0.0)], ids=["margin", "four networks"]
)
def test_other_contrasts_of_images_take_the_bootstrap(values, margin):
    assert compare(image_contrast(values), margin).test == "paired bootstrap"


@pytest.mark.parametrize(("seeds", "smallest"), [(2, 0.5), (3, 0.25), (4, 0.125), (5, 0.0625), (6, 0.03125)])
def test_the_sign_flip_test_has_a_smallest_p(seeds, smallest):
    above, below = sign_flip(np.linspace(1, 2, seeds))
    assert 2 * above == smallest
    assert below == 1


def test_the_sign_flip_test_counts_every_pattern():
    values = np.array([0.3, -0.1, 0.7, 0.2, -0.4])
    sums = [np.dot(signs, values) for signs in itertools.product([1, -1], repeat=5)]
    assert sign_flip(values) == (np.mean(np.array(sums) > 0.7 - 1e-9), np.mean(np.array(sums) < 0.7 + 1e-9))


def test_more_than_sixteen_seeds_are_flipped_by_chance():
    values = np.random.default_rng(2).normal(0.3, 1.0, size=20)
    assert sign_flip(values) == sign_flip(values)
    student = student_tail(values.mean() / values.std(ddof=1) * 20**0.5, 19)
    assert sign_flip(values)[0] == pytest.approx(student, abs=0.01)
    assert sign_flip(np.ones(20))[0] == pytest.approx(1 / 2**16)


def test_three_seeds_are_never_significant():
    found = compare(seed_contrast([9.0, 9.01, 9.02]))
    assert found.p_two_sided == 0.25
    assert found.low > 8.9
    assert not found.decidable


def test_six_seeds_that_agree_have_the_p_of_students_t():
    values = np.array([1.0, 1.2, 0.9, 1.1, 1.3, 0.8])
    found = compare(seed_contrast(values), margin=0.5)
    assert found.p_above == pytest.approx(student_tail((1.05 - 0.5) / (values.std(ddof=1) / 6**0.5), 5))
    assert found.p_above < 1 / 64
    assert found.decidable


def test_six_seeds_of_which_one_disagrees_have_the_larger_p():
    values = np.array([1.0, 1.2, 0.9, 1.1, 1.3, -0.01])
    found = compare(seed_contrast(values))
    assert found.low > 0
    assert found.p_above == 2 / 64
    assert found.p_two_sided > 0.05


def test_seeds_that_all_differ_alike_have_the_sign_flip_test_alone():
    found = compare(seed_contrast([2.0] * 6))
    assert (found.p_above, found.p_below, found.test) == (1 / 64, 1, "sign-flip test")
    assert found.to_dict()["low"] is None
    assert found.to_dict()["high"] is None


def test_one_seed_says_nothing():
    found = compare(seed_contrast([5.0]))
    assert (found.p_above, found.p_below, found.decidable) == (1, 1, False)


def test_one_image_says_nothing():
    found = compare(by_image([1], [0]))
    assert found.p_two_sided == 1
    assert not found.decidable


CONTRASTS = [
    image_contrast([1, 1, -1, 0, 0, 1, 1, 1]),
    image_contrast([2, 1, -1, 0, 0.5, 1, -2, 1]),
    image_contrast(np.random.default_rng(3).normal(0.1, 0.2, size=40)),
    seed_contrast([0.5, 0.7, -0.1, 0.9, 0.4, 0.3]),
    seed_contrast([0.5, 0.7, 0.6]),
    seed_contrast([0.5]),
]


@pytest.mark.parametrize("margin", [0.0, 0.5, 30.0])
@pytest.mark.parametrize("contrast", CONTRASTS, ids=range(len(CONTRASTS)))
def test_exchanging_the_sides_mirrors_a_comparison(contrast, margin):
    make = {"image": lambda values: image_contrast(values / 100), "seed": seed_contrast}[contrast.unit]
    found, other = compare(contrast, margin), compare(make(-contrast.values), -margin).mirrored()
    for name in ("difference", "low", "high", "margin", "p_above", "p_below"):
        assert getattr(other, name) == pytest.approx(getattr(found, name), abs=1e-9)
    assert other.test == found.test


@pytest.mark.parametrize("margin", [0.0, 0.5, 30.0])
@pytest.mark.parametrize("contrast", CONTRASTS, ids=range(len(CONTRASTS)))
def test_one_of_both_sides_is_always_possible(contrast, margin):
    found = compare(contrast, margin)
    assert found.p_above + found.p_below > 1 - 1e-9


def test_a_margin_is_a_finite_number():
    with pytest.raises(ConfigError, match="finite"):
        compare(seed_contrast([1, 2]), margin=float("nan"))
