import numpy as np
import pytest

from rmeeto.analysis.mean import BootstrapMean, StudentMean


def drawn(values, largest, resamples=20_000):
    """Means of the plain bootstrap: the values and one of either extreme, drawn with replacement."""
    pool = np.concatenate([values, [-largest, largest]])
    picks = np.random.default_rng(5).integers(len(pool), size=(resamples, len(values)))
    return pool[picks].mean(axis=1)


@pytest.mark.parametrize(
    "values",
    [
        np.repeat([100.0, -100.0, 0.0], [30, 12, 158]),
        np.repeat([200.0, 100.0, -100.0, 0.0], [5, 30, 12, 100]),
        np.repeat([100 / 3, -200 / 3, 0.0], [50, 10, 60]),
        np.random.default_rng(1).exponential(20.0, size=150).clip(max=200) - 15,
    ],
    ids=["pairs", "differences of differences", "thirds", "no grid"],
)
def test_the_computed_bootstrap_is_the_drawn_one(values):
    mean, resamples = BootstrapMean.of(values, 200.0), drawn(values, 200.0)
    assert mean.value == values.mean()
    assert mean.chances.sum() == pytest.approx(1)
    assert mean.interval() == pytest.approx(np.quantile(resamples, [0.025, 0.975]), abs=1.1)
    for bound in (-5.0, 0.0, 4.0, 12.0):
        assert mean.p_above(bound) == pytest.approx((resamples <= bound + 1e-9).mean(), abs=0.015)
        assert mean.p_below(bound) == pytest.approx((resamples >= bound - 1e-9).mean(), abs=0.015)


def test_the_chances_of_few_draws_are_those_of_every_sequence():
    values = np.array([100.0, -100.0, 0.0])
    pool = np.concatenate([values, [-100.0, 100.0]])
    means = np.array(np.meshgrid(pool, pool, pool)).reshape(3, -1).mean(axis=0)
    mean = BootstrapMean.of(values, 100.0)
    for bound in (-100.0, -50.0, 0.0, 100 / 3, 99.0):
        assert mean.p_above(bound) == pytest.approx((means <= bound + 1e-9).mean(), abs=1e-12)


def test_the_bootstrap_interval_is_where_its_p_values_reach_two_and_a_half_per_cent():
    mean = BootstrapMean.of(np.repeat([100.0, -100.0, 0.0], [40, 25, 435]), 100.0)
    low, high = mean.interval()
    assert mean.p_above(low - 0.01) <= 0.025 < mean.p_above(low)
    assert mean.p_below(high + 0.01) <= 0.025 < mean.p_below(high)


def test_images_on_which_all_agree_leave_an_interval():
    few, many = BootstrapMean.of(np.zeros(10), 100.0), BootstrapMean.of(np.zeros(5_000), 100.0)
    assert few.interval() == pytest.approx((-30, 30))
    assert many.interval() == pytest.approx((-0.06, 0.06))


def test_students_interval_is_the_textbooks():
    mean = StudentMean.of(np.array([1.0, 2.0, 3.0]))
    assert mean.interval() == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5), abs=1e-5)
    assert mean.p_above(2.0) == 0.5
    assert mean.p_above(2 - 4.302653 / 3**0.5) == pytest.approx(0.025, abs=1e-7)
    assert mean.p_below(3.0) == pytest.approx(mean.p_above(1.0))


@pytest.mark.parametrize("values", [[2.0], [2.0, 2.0, 2.0], [0.1 + 0.2, 0.3, 0.3], [0.0, 0.0]])
def test_one_seed_or_equal_seeds_show_nothing(values):
    mean = StudentMean.of(np.array(values))
    assert mean.interval() == (-np.inf, np.inf)
    assert mean.p_above(-100) == mean.p_below(100) == 1
