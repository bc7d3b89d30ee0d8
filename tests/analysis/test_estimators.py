"""Estimators of mutual information: known figures, independence, seeds, samples of one image, bad input."""

import json
import math
from dataclasses import replace

import pytest
import torch

from rmeeto.analysis.estimators import (
    ESTIMATORS,
    KSG,
    MINE,
    SMILE,
    Estimate,
    InfoNCE,
    Training,
    as_estimator,
    mutual_information,
    samples,
)
from rmeeto.analysis.estimators.critic import Critic
from rmeeto.analysis.gaussians import as_text, bias_table, gaussian_pair
from rmeeto.errors import ConfigError, UnknownName, UnsupportedInput

CRITICS = (MINE, InfoNCE, SMILE)
SHORT = Training(steps=100, batch=128, width=16, hidden=32, learning_rate=3e-3)
SHORTER = Training(steps=15, batch=64, width=8, hidden=8, learning_rate=1e-2, check_every=5)  # no figure depends on it


def estimators(*several):
    return pytest.mark.parametrize("estimator", several, ids=lambda estimator: estimator.name)


each_critic = estimators(*(kind(training=SHORT) for kind in CRITICS))
each = estimators(*(kind(training=SHORT) for kind in CRITICS), KSG())
each_in_short = estimators(*(kind(training=SHORTER) for kind in CRITICS), KSG())


@each
def test_gaussians_of_known_information(estimator):
    pairs = samples(*gaussian_pair(1200, 3, 1.0, shared=3, seed=0))
    assert estimator(pairs, seed=0) == pytest.approx(1.0, abs=0.25)


@estimators(*(kind(training=replace(SHORT, learning_rate=2e-2)) for kind in CRITICS))
def test_dependence_that_no_correlation_shows(estimator):
    """|x| decides y: the linear correlation is zero, the information about 0.9 nats."""
    x = torch.randn(1200, 1)
    y = x.abs() + 0.2 * torch.randn(1200, 1)
    assert estimator(samples(x, y), seed=0) > 0.2


@each
def test_independent_signals_have_nothing_in_common(estimator):
    pairs = samples(torch.randn(600, 12), torch.randn(600, 12))
    assert estimator(pairs, seed=0) == pytest.approx(0, abs=0.1)


@each_in_short
def test_a_seed_decides_everything_and_touches_nothing_outside(estimator):
    pairs = samples(*gaussian_pair(300, 6, 1.0, shared=6, seed=0))
    state = torch.get_rng_state()
    first = estimator(pairs, seed=3)
    torch.rand(5)
    with torch.inference_mode():
        again = estimator(pairs, seed=3)
    assert first == again != estimator(pairs, seed=4)
    torch.set_rng_state(state)
    estimator(pairs, seed=3)
    assert torch.equal(torch.get_rng_state(), state)


@each_in_short
def test_the_order_of_samples_does_not_matter(estimator):
    x, y = gaussian_pair(300, 5, 1.0, shared=5, seed=0)
    order, image = torch.randperm(300), torch.arange(300)
    assert estimator(samples(x, y, image), 0) == estimator(samples(x[order], y[order], image[order]), 0)


@each_in_short
def test_the_scale_of_columns_does_not_matter(estimator):
    x, y = gaussian_pair(300, 5, 1.0, shared=5, seed=0)
    scale = torch.tensor([1e-4, 1.0, 1.0, 30.0, 1e5])
    constant = torch.full((300, 1), 7.0)
    changed = torch.cat([x * scale + 5 * scale, constant], 1)
    assert estimator(samples(changed, y), 0) == pytest.approx(estimator(samples(x, y), 0), abs=0.02)


@each_critic
def test_what_is_learnt_by_heart_is_not_believed(estimator):
    """Each of 40 images has an x and a y of its own, without relation; its 12 samples repeat them."""
    x, y = (torch.randn(40, 30).repeat_interleave(12, 0) for _ in range(2))
    image = torch.arange(40).repeat_interleave(12)
    assert estimator(samples(x, y, image), seed=0) < 0.3
    assert estimator(samples(x, y), seed=0) > 1.0  # if the images were unknown, it would be


@each_in_short
@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_very_small_and_very_large_numbers_do_no_harm(estimator, size):
    x, y = gaussian_pair(200, 4, 2.0, shared=4, seed=0)
    x, y = x.double(), y.double()
    assert estimator(samples(x * size, y), 0) == pytest.approx(estimator(samples(x, y), 0), abs=0.02)


@each_in_short
def test_every_number_is_welcome_and_nothing_is_changed(estimator):
    with torch.inference_mode():
        x, y = gaussian_pair(200, 4, 2.0, shared=4, seed=0)
    for kind in (torch.bfloat16, torch.float64, torch.int32):
        given = (x * 10).to(kind), (y * 10).to(kind)
        kept = [signal.clone() for signal in given]
        assert math.isfinite(estimator(samples(*given), 0))
        assert all(map(torch.equal, given, kept))


@pytest.mark.parametrize("count", [10, 11, 57])
def test_parts_share_no_image_and_miss_none(count):
    image = torch.arange(6 * count) % count
    parts = samples(torch.randn(6 * count, 2), torch.randn(6 * count, 2), image).parts((0.6, 0.2, 0.2), seed=1)
    numbers = [set(part.image.tolist()) for part in parts]
    assert sorted(number for part in numbers for number in part) == list(range(count))
    assert [part.count for part in parts] == [6 * len(part) for part in numbers]
    assert [len(part) for part in numbers] == pytest.approx([0.6 * count, 0.2 * count, 0.2 * count], abs=1)


def test_a_critic_takes_no_two_samples_of_one_image_for_a_pair_by_chance():
    pairs = samples(torch.randn(60, 2), torch.randn(60, 3), torch.arange(60) // 5)
    scores = Critic(2, 3, width=4, hidden=4)(pairs)
    assert not scores.table.any()  # it starts without an opinion
    assert torch.equal(scores.chance, torch.block_diag(*[torch.ones(5, 5)] * 12) == 0)


def test_many_samples_are_judged_in_pieces_from_all_over_the_images(monkeypatch):
    monkeypatch.setattr("rmeeto.analysis.estimators.critic.MOST_AT_ONCE", 25)
    pairs, seen = samples(torch.randn(60, 2), torch.randn(60, 3), torch.arange(60) // 6), []

    def measure(scores):
        seen.append(scores.chance)
        return torch.tensor(float(len(seen)))

    assert Critic(2, 3, width=4, hidden=4).judged(pairs, measure) == 2.0
    assert [len(chance) for chance in seen] == [20, 20, 20]
    assert all(chance.sum() == 20 * 20 - 10 * 2 * 2 for chance in seen)


def test_an_estimate_has_an_interval_over_seeds():
    x, y = gaussian_pair(400, 5, 1.0, shared=5, seed=0)
    found = mutual_information(x, y, estimator=InfoNCE(training=SHORTER), seeds=3)
    assert len(found.values) == 3
    assert found.low < found.nats < found.high
    assert found.most == pytest.approx(math.log(80))
    assert json.loads(json.dumps(found.as_json()))["values"] == list(found.values)


def test_seeds_that_agree_exactly_say_nothing_about_the_error():
    x, y = gaussian_pair(400, 1, 1.0, shared=1, seed=0)
    found = mutual_information(x, y, estimator="ksg", seeds=3)
    assert (found.low, found.high, found.sign) == (None, None, 0)
    assert "no interval" in str(found)


@pytest.mark.parametrize(
    ("values", "sign"), [((0.4, 0.5, 0.6), 1), ((-0.4, -0.5, -0.6), -1), ((-0.1, 0.5, 0.6), 0), ((0.0, 0.0), 0)]
)
def test_the_sign_of_an_estimate_is_that_of_its_whole_interval(values, sign):
    assert Estimate.of("any", values, 10).sign == sign


def test_the_bias_table_has_a_row_for_every_setting():
    table = bias_table(
        [InfoNCE(training=SHORTER), KSG()], dims=[4, 8], nats=[0.0, 1.0], shared=[4, 99], count=160, seeds=2
    )
    assert len(table) == 2 * 2 * 2 * 2
    assert {(row.dim, row.shared) for row in table} == {(4, 4), (8, 4), (8, 8)}
    assert all(abs(row.bias) < 0.3 for row in table if row.truth == 0)
    assert all(row.bias < 0 for row in table if row.found.estimator == "ksg" and row.truth == 1)
    text = as_text(table)
    assert "infonce" in text
    assert len(text.splitlines()) == 1 + 6
    json.dumps([row.as_json() for row in table])


def test_gaussians_have_the_information_that_they_should():
    x, y = gaussian_pair(20_000, 4, 1.5, shared=2, seed=0)
    both = torch.cat([x, y], 1).T.double().cov()
    nats = 0.5 * (both[:4, :4].logdet() + both[4:, 4:].logdet() - both.logdet())
    assert float(nats) == pytest.approx(1.5, abs=0.03)


@pytest.mark.parametrize(
    ("x", "y", "images", "why"),
    [
        (torch.randn(49, 2), torch.randn(49, 2), None, "49 samples are too few"),
        (torch.randn(60, 2), torch.randn(61, 2), None, "x has 60 samples, y has 61"),
        (torch.randn(60), torch.randn(60, 2), None, "x must be a tensor of one row per sample"),
        (torch.randn(60, 2), torch.randn(60, 0), None, "y must be a tensor of one row per sample"),
        ([[1.0]] * 60, torch.randn(60, 2), None, "x must be a tensor"),
        (torch.randn(60, 2), torch.full((60, 2), math.nan), None, "y contains NaN or infinity"),
        (torch.randn(60, 2), torch.full((60, 2), 0.1), None, "y is constant"),
        (torch.randn(60, 2), torch.randn(60, 2), torch.arange(60) // 10, "they come from 6 images"),
        (torch.randn(60, 2), torch.randn(60, 2), torch.arange(59), "images must be one whole number per sample"),
        (torch.randn(60, 2), torch.randn(60, 2), torch.rand(60), "images must be one whole number per sample"),
    ],
)
def test_bad_samples_are_refused_with_the_reason(x, y, images, why):
    with pytest.raises(UnsupportedInput, match=why):
        mutual_information(x, y, images=images)


def test_bad_options_are_refused_with_the_reason():
    x, y = torch.randn(2, 60, 2)
    with pytest.raises(UnknownName, match="did you mean mine"):
        mutual_information(x, y, estimator="mien")
    with pytest.raises(ConfigError, match="seeds is at least 2"):
        mutual_information(x, y, seeds=1)
    with pytest.raises(ConfigError, match="clip is above 0"):
        SMILE(clip=0.0)
    with pytest.raises(ConfigError, match="average is at least"):
        MINE(average=0.0)
    with pytest.raises(ConfigError, match="learning_rate"):
        Training(learning_rate=0.0)
    with pytest.raises(ConfigError, match="steps is a whole number"):
        Training(steps=1.5)


def test_every_estimator_has_its_name():
    assert list(ESTIMATORS) == ["mine", "infonce", "smile", "ksg"]
    assert all(as_estimator(name).name == name for name in ESTIMATORS)
