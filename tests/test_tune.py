"""The search finds the best counts within the budget; tuning scores them on images that it has not seen."""

from functools import partial
from itertools import product

import pytest

import rmeeto
from rmeeto import TokenMerge, tune
from rmeeto.cost import stack_of
from rmeeto.errors import ConfigError
from rmeeto.reduction import parse_reduction
from rmeeto.tuning.run import Problem
from rmeeto.tuning.search import exchange, search
from toys import SIZES, make_folder

SENSITIVITY = (5.0, 1.0, 3.0, 0.5)  # of an imaginary network's blocks
SAVING = (4, 3, 2, 1)  # early tokens are worth more
EQUAL = (2, 2, 2, 2)


def harm(counts):
    return sum(s * count**2 for s, count in zip(SENSITIVITY, counts, strict=True))


def cost(counts, saving=SAVING):
    return float("inf") if max(counts) > 9 else 100.0 - sum(map(int.__mul__, saving, counts))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("limit", [90, 79, 61])
@pytest.mark.parametrize(("saving", "slack"), [(EQUAL, 1.0), (SAVING, 1.15)], ids=["equal", "unequal"])
def test_the_search_finds_the_optimum_and_never_exceeds_the_budget(limit, saving, slack, seed):
    """Exactly where all tokens are worth the same; else whole tokens leave pairwise exchanges a remainder."""

    priced = partial(cost, saving=saving)
    feasible = [counts for counts in product(range(10), repeat=4) if priced(counts) <= limit]
    start = max(feasible, key=harm)
    tried = []

    def objective(counts):
        tried.append(counts)
        return harm(counts)

    found = search([start], objective, priced, limit, evaluations=2000, seed=seed)
    assert harm(found.path[-1]) <= slack * min(map(harm, feasible))
    assert max(map(priced, tried)) <= limit
    assert len(tried) == len(set(tried)) == found.evaluations
    assert found.path[0] == start
    assert [harm(counts) for counts in found.path] == sorted(map(harm, found.path), reverse=True)
    assert search([start], harm, priced, limit, evaluations=2000, seed=seed) == found


def test_the_search_keeps_to_its_evaluations_and_begins_at_the_best_start():
    starts = [(9, 0, 0, 0), (0, 9, 0, 9), (0, 0, 9, 9)]
    found = search(starts, harm, cost, 100, evaluations=3)
    assert found.evaluations == 3
    assert found.path[-1] == min(starts, key=harm)


def test_an_exchange_takes_no_more_than_the_budget_needs():
    assert exchange((3, 0, 0, 0), 0, 3, 1, cost, 88) == (2, 0, 0, 4)  # an early token is worth four late ones
    assert exchange((0, 0, 0, 4), 3, 0, 4, cost, 96) == (1, 0, 0, 0)
    assert exchange((0, 0, 0, 9), 0, 3, 1, cost, 91) is None  # nothing to give
    assert exchange((9, 9, 9, 9), 0, 1, 1, cost, 10) is None  # no other block can remove more


@pytest.fixture(scope="module")
def model():
    return rmeeto.create_model("vim_tiny", num_classes=3, **SIZES)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("tune"), train=4, val=2)


@pytest.mark.parametrize("budget", ["merge:fewer=1.2", "prune:ratio=0.2,features=C", "merge:r=2*3,blocks=all"])
def test_tuning_costs_no_more_and_changes_answers_no_more(model, pictures, budget):
    model.reduction = TokenMerge(r=1)
    result = tune(model, pictures, budget, images=6, evaluations=12, workers=0)
    _, given, tuned = result.scores
    assert model.reduction == TokenMerge(r=1)
    assert tuned.gflops_exact <= given.gflops_exact
    assert result.divergence <= result.given_divergence
    assert result.evaluations <= 12
    assert result.images == 6
    assert given.images == tuned.images == 6
    again = tune(model, pictures, parse_reduction(budget), images=6, evaluations=12, workers=0)
    assert again.reduction == result.reduction


def test_a_tuned_schedule_is_saved_and_read(model, pictures, tmp_path):
    result = tune(model, pictures, "merge:ratio=0.2,op=max", images=6, evaluations=6, workers=0)
    result.save(tmp_path / "schedule.json")
    read = parse_reduction(f"@{tmp_path / 'schedule.json'}")
    assert str(read) == result.reduction
    assert (read.op, read.blocks) == ("max", "all")
    model.reduction = read
    assert model.schedule.tokens == result.tokens


def test_every_start_is_within_the_budget(model):
    problem = Problem(TokenMerge(fewer=1.2), stack_of(model.config))
    starts = problem.starts()
    assert len(starts) > 2
    assert all(problem.cost(counts) <= problem.limit for counts in starts)
    assert problem.cost((99, 0, 0)) == float("inf")


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"reduction": "released:r=3"}, "a count for each block"),
        ({"reduction": "none"}, "a count for each block"),
        ({"reduction": "merge:fewer=50"}, "fewer"),
        ({"reduction": "merge:r=3", "images": 0}, "count from 1"),
        ({"reduction": "similar-merge:r=3"}, "upper bounds"),
    ],
)
def test_what_cannot_be_tuned_says_why(model, pictures, options, hint):
    with pytest.raises(ConfigError, match=hint):
        tune(model, pictures, **options, workers=0)
