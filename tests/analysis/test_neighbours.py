"""KSG: against loops over all pairs, against closed forms, with ties, with several samples per image."""

import math

import pytest
import torch

from rmeeto.analysis.estimators import KSG, mutual_information, nearest_neighbours, samples
from rmeeto.analysis.estimators import neighbours as module
from rmeeto.analysis.gaussians import gaussian_pair
from rmeeto.errors import ConfigError, UnknownName, UnsupportedInput


def psi(count):
    """The digamma function at a whole number."""
    return sum(1 / k for k in range(1, count)) - 0.5772156649015329


def by_loops(x, y, k):
    """The estimate as its paper words it, with the rule for ties."""
    terms = []
    for i in range(len(x)):
        others = [j for j in range(len(x)) if j != i]
        in_x = [max(abs(a - b) for a, b in zip(x[i], x[j], strict=True)) for j in others]
        in_y = [max(abs(a - b) for a, b in zip(y[i], y[j], strict=True)) for j in others]
        together = sorted(map(max, in_x, in_y))
        reach = together[k - 1]
        within = sum(distance <= reach for distance in together)
        if within > k or reach == 0:
            near = [sum(distance <= reach for distance in one) for one in (in_x, in_y)]
        else:
            near = [sum(distance < reach for distance in one) + 1 for one in (in_x, in_y)]
        terms.append(psi(within) + psi(len(x)) - psi(near[0]) - psi(near[1]))
    return sum(terms) / len(terms)


@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize("kind", ["normal", "whole numbers", "repeated"])
def test_it_is_what_loops_over_all_pairs_give(kind, k):
    x = torch.randn(60, 2, dtype=torch.float64)
    y = torch.cat([x[:, :1], torch.randn(60, 1, dtype=torch.float64)], 1) + 0.3 * torch.randn(60, 2)
    if kind == "whole numbers":
        x, y = x.round(), y.round()
    if kind == "repeated":
        x[::2], y[::2] = x[:1], y[:1]
    found = nearest_neighbours(samples(x, y), k)
    assert found == pytest.approx(by_loops(x.tolist(), y.tolist(), k), abs=1e-10)


def test_of_an_image_one_sample_is_used_at_a_time():
    x, y = gaussian_pair(90, 2, 1.0, shared=2, seed=0)
    x, y = x.double(), y.double()
    image = torch.arange(90) % 30
    image[-1] = 0  # one image has four samples, and one has two
    first, second = range(30), [*range(30, 59), 59]
    each = [by_loops(x[[*rows]].tolist(), y[[*rows]].tolist(), 4) for rows in (first, second)]
    assert nearest_neighbours(samples(x, y, image), 4) == pytest.approx(sum(each) / 2, abs=1e-10)


def test_tables_in_pieces_give_the_same(monkeypatch):
    pairs = samples(*gaussian_pair(100, 2, 0.5, shared=2, seed=0))
    whole = nearest_neighbours(pairs, 3)
    monkeypatch.setattr(module, "CELLS", 700)
    assert nearest_neighbours(pairs, 3) == pytest.approx(whole, abs=1e-12)


@pytest.mark.parametrize(("dim", "nats"), [(1, 0.0), (1, 0.5), (1, 2.0), (2, 1.0)])
def test_gaussians_of_few_dimensions_give_their_closed_form(dim, nats):
    x, y = gaussian_pair(1000, dim, nats, shared=dim, seed=1)
    assert nearest_neighbours(samples(x, y), 4) == pytest.approx(nats, abs=0.1)


def test_a_discrete_law_gives_the_sum_over_its_cells():
    law = torch.tensor([[0.3, 0.1, 0.0], [0.1, 0.3, 0.2]], dtype=torch.float64)
    drawn = torch.multinomial(law.flatten(), 1000, replacement=True)
    x, y = (drawn // 3)[:, None].double(), (drawn % 3)[:, None].double()
    alone = law.sum(1, keepdim=True) * law.sum(0, keepdim=True)
    nats = float(torch.where(law > 0, law * (law / alone).log(), law).sum())
    assert nearest_neighbours(samples(x, y), 4) == pytest.approx(nats, abs=0.05)


def test_the_order_of_samples_does_not_matter():
    x, y = gaussian_pair(300, 2, 0.7, shared=2, seed=0)
    order = torch.randperm(300)
    assert nearest_neighbours(samples(x[order], y[order]), 4) == pytest.approx(
        nearest_neighbours(samples(x, y), 4), abs=1e-12
    )


def test_resemblance_within_an_image_is_no_information():
    """Repeating each pair would look like a dependence: where one of its five samples is, there are the others."""
    x, y = gaussian_pair(300, 1, 0.0, shared=1, seed=0)
    x, y = x.repeat_interleave(5, 0), y.repeat_interleave(5, 0)
    x, y = (signal + 1e-4 * torch.randn_like(signal) for signal in (x, y))
    assert nearest_neighbours(samples(x, y, torch.arange(1500) // 5), 4) == pytest.approx(0, abs=0.1)
    assert nearest_neighbours(samples(x, y), 4) > 3


def test_canonical_directions_find_what_others_miss():
    x, y = gaussian_pair(1200, 24, 2.0, shared=2, seed=0)
    found = {
        name: mutual_information(x, y, estimator=KSG(projection=name, dimensions=2), seeds=2).nats
        for name in ("canonical", "principal", "random")
    }
    assert found["canonical"] > 1.5
    assert found["random"] < 0.3
    assert found["principal"] < 0.5


def test_more_columns_than_samples_find_nothing_where_there_is_nothing():
    x, y = gaussian_pair(100, 150, 0.0, shared=1, seed=0)
    assert abs(mutual_information(x, y, estimator="ksg").nats) < 0.25


@pytest.mark.parametrize("projection", ["canonical", "principal", "random"])
def test_signals_of_different_widths_are_projected(projection):
    x, y = torch.randn(200, 9), torch.randn(200, 2)
    assert math.isfinite(KSG(projection=projection)(samples(x, y), seed=0))


def test_what_cannot_be_asked_is_refused():
    with pytest.raises(ConfigError, match="neighbours is at least 1"):
        KSG(neighbours=0)
    with pytest.raises(ConfigError, match="dimensions is a whole number"):
        KSG(dimensions=2.0)
    with pytest.raises(UnknownName, match="did you mean canonical"):
        KSG(projection="canonic")
    pairs = samples(torch.randn(60, 1), torch.randn(60, 1), torch.arange(60) % 10)
    with pytest.raises(UnsupportedInput, match="samples of 10 images"):
        nearest_neighbours(pairs, 5)
