"""The paper's figures: typed right, counted right, and where the paper contradicts itself."""

import re
from importlib.resources import files

import pytest

from papers_figures import figures, printed
from rmeeto.experiments.claims import groups
from rmeeto.experiments.definition import COLUMN, COUNTED, list_tables, load_table
from rmeeto.experiments.own_figures import every_place, is_true_of_the_paper
from rmeeto.experiments.plan import places
from rmeeto.experiments.scale import load_scale
from rmeeto.models.vim.zoo import ZOO

TABLES = list_tables()
UNKNOWN = {"images": None, "clips": None}
FREE, TRAINED = {"column": "free"}, {"column": "trained"}
TINY, SMALL = {"model": "vim_tiny"}, {"model": "vim_small"}

# The paper's own columns of differences, typed from the paper a second time: table, two sides, left minus right.
DIFFERENCES = [
    ("5a", TRAINED | TINY, FREE | TINY, [45.9, 57.2, 58.6, 58.8]),
    ("5a", TRAINED | SMALL, FREE | SMALL, [14.9, 39.8, 44.6, 45.5]),
    ("5b", TRAINED | {"operation": "pruning"}, FREE | {"operation": "pruning"}, [15.0, 39.6, 44.3, 45.8]),
    ("5b", TRAINED | {"operation": "merging"}, FREE | {"operation": "merging"}, [14.9, 39.8, 44.6, 45.5]),
    ("6", TRAINED | TINY, FREE | TINY, [35.8, 39.0, 24.1, 42.7]),
    ("6", TRAINED | SMALL, FREE | SMALL, [3.0, 2.6, 3.2, 2.4]),
    ("7", TRAINED | TINY, FREE | TINY, [36.0, 36.1, 36.1]),
    ("7", TRAINED | SMALL, FREE | SMALL, [3.0, 3.0, 3.1]),
    ("17", TRAINED | TINY, FREE | TINY, [35.9, 32.3, 30.8, 34.5]),
    ("17", TRAINED | SMALL, FREE | SMALL, [2.9, 3.1, 4.8, 4.9]),
    ("18", {"operation": "merging"}, {"operation": "pruning"}, [0.1, 0.2, 1.6, 9.7]),
    ("19", TRAINED, FREE, [1.6, 2.9, 6.5, 21.0]),
    ("20", TRAINED | TINY, FREE | TINY, [35.9, 43.9, 30.9]),
    ("20", TRAINED | SMALL, FREE | SMALL, [2.9, 4.2, 4.5]),
]
# Table 2: accuracy lost and operations saved against the baseline.
SAVED = {
    ("vim_tiny", "Token Recognition"): (4.8, 0.17),
    ("vim_tiny", "Hidden State Alignment"): (1.0, 0.16),
    ("vim_tiny", "R-MeeTo"): (0.8, 0.17),
    ("vim_small", "Token Recognition"): (5.7, 1.51),
    ("vim_small", "Hidden State Alignment"): (1.7, 1.48),
    ("vim_small", "R-MeeTo"): (0.6, 1.50),
    ("vim_base", "R-MeeTo"): (0.6, 5.66),
    ("videomamba_tiny", "R-MeeTo"): (1.0, 0.17),
    ("videomamba_small", "R-MeeTo"): (1.1, 1.50),
    ("videomamba_base", "R-MeeTo"): (0.8, 5.66),
}
# Table 4: with order minus without, as printed (the one of DeiT-S without its sign).
GAINED_BY_ORDER = {
    "deit_tiny": 0.0,
    "deit_small": -0.1,
    "deit_base": 0.0,
    "vim_tiny": 9.4,
    "vim_small": 6.6,
    "vim_base": 7.7,
}
WRONG_IN_TABLE_4 = {"vim_tiny": 9.2, "vim_small": 6.5}  # what the printed accuracies give
# Table 12: speed over the unreduced model, for r = 5, 10, 11, 15, 20.
FASTER = {
    "rtx3090": [0.96, 1.12, 1.21, 1.27, 1.39],
    "rtx4090": [0.93, 1.12, 1.16, 1.33, 1.49],
    "v100": [0.93, 1.10, 1.13, 1.27, 1.42],
    "a4000": [0.93, 1.08, 1.18, 1.24, 1.37],
    "a100": [0.93, 1.11, 1.14, 1.29, 1.42],
    "h100": [0.90, 1.03, 1.10, 1.15, 1.25],
}
UNTRUE_OF_THE_PAPER = {
    ("16", "The larger the interval, the lower the accuracy (section D.2; the caption says the opposite)."),  # no trend
    ("11", "The more tokens are removed, the lower the accuracy."),  # odd r fall below the even ones after them
    ("14", "The more tokens are removed, the lower the accuracy."),  # up to r = 32 VideoM-Ti gains
    ("15", "The less similar the merged pairs, the lower the accuracy."),  # Vim-Ti is best with the 5th closest
    ("20", "Odd-even grouping is better than random, training-free."),  # not for Vim-Ti, training-free
}
COUNTED_OTHERWISE = {
    ("2", "vim_tiny", "Hidden State Alignment", "flops"),
    ("2", "vim_small", "Token Recognition", "flops"),
    ("2", "vim_small", "Hidden State Alignment", "flops"),
    ("13", "videomamba_tiny_video", "R-MeeTo", "flops"),
}


@pytest.mark.parametrize(("name", "left", "right", "differences"), DIFFERENCES)
def test_the_papers_columns_of_differences_follow_from_its_figures(name, left, right, differences):
    pairs = zip(figures(name, **left), figures(name, **right), strict=True)
    assert [round(a - b, 1) for a, b in pairs] == differences


@pytest.mark.parametrize(("model", "method"), SAVED)
def test_the_losses_and_savings_of_table_2_follow_from_its_figures(model, method):
    acc, flops = figures("2", model=model, method=method)
    acc_whole, flops_whole = figures("2", model=model, method="baseline")
    assert (round(acc_whole - acc, 1), round(flops_whole - flops, 2)) == SAVED[model, method]


@pytest.mark.parametrize("model", GAINED_BY_ORDER)
def test_the_gains_of_table_4_follow_from_its_figures_but_for_two(model):
    (without,), (kept,) = figures("4", model=model, order="odd-even"), figures("4", model=model, order="kept")
    assert round(kept - without, 1) == WRONG_IN_TABLE_4.get(model, GAINED_BY_ORDER[model])


@pytest.mark.parametrize("device", FASTER)
def test_the_speed_ups_of_table_12_follow_from_its_figures(device):
    whole, *reduced = figures("12", column=device)
    assert [round(one / whole, 2) for one in reduced] == FASTER[device]


def test_claims_about_speed_are_the_range_of_the_papers_devices():
    ratios = [claim for claim in load_table("12").claims if claim.kind == "ratio"]
    for claim, speeds in zip(ratios, zip(*FASTER.values(), strict=True), strict=True):
        ends = claim.value / (1 + claim.margin), claim.value * (1 + claim.margin)
        assert [round(end, 2) for end in ends] == [min(speeds), max(speeds)]
        assert f"{min(speeds):.2f} to {max(speeds):.2f}" in claim.text


def test_tables_that_print_the_same_figure_agree_on_it():
    assert figures("5a", model="vim_small") == figures("5b", operation="merging")
    assert figures("18", operation="merging") == figures("19", column="free")
    for model, free in (("vim_tiny", 38.2), ("vim_small", 76.3)):
        assert {figures(name, model=model, column="free")[0] for name in ("6", "7", "17", "20")} == {free}
        assert figures("11", model=model, r={"vim_tiny": 5, "vim_small": 11}[model]) == [free]


@pytest.mark.parametrize("name", TABLES)
def test_claims_are_true_of_the_papers_own_figures_but_for_a_few(name):
    table = load_table(name)
    untrue = {(name, claim.text) for claim in table.claims if is_true_of_the_paper(table, claim) is False}
    assert untrue == {one for one in UNTRUE_OF_THE_PAPER if one[0] == name}


@pytest.mark.parametrize("name", TABLES)
def test_every_claim_is_about_cells_of_its_table(name):
    table = load_table(name)
    pictures = {column.key for column in table.columns if column.measure == "pictures"}
    for claim in table.claims:
        found = list(groups(claim, every_place(table)))
        assert found or claim.where[COLUMN] in pictures, claim.text
        assert all(len(group) > 1 for group in found) or claim.kind == "printed", claim.text


@pytest.mark.parametrize(
    "name", [n for n in TABLES if any(c.measure in COUNTED - {"predicted_minutes"} for c in load_table(n).columns)]
)
def test_operations_tokens_and_ratios_are_the_printed_ones_to_the_last_digit(name):
    table, wrong, checked = load_table(name), set(), 0
    for place in places(table, load_scale("small"), UNKNOWN):
        shown = place.row.printed.get(place.column.key)
        if place.counted is None or shown is None:
            continue
        checked += 1
        if f"{place.counted:.{place.column.digits}f}" != f"{shown:.{place.column.digits}f}":
            wrong.add((name, place.row.model, place.row.coordinates["method"], place.column.key))
    assert wrong == {one for one in COUNTED_OTHERWISE if one[0] == name}
    assert checked or name == "21"


def test_the_papers_count_is_reproduced_with_its_quirk():
    """An unreduced model is counted without the cost of merging, a merged one with it (18.87 and 13.21)."""
    found = {
        (place.row.model, place.row.coordinates["method"]): place.counted
        for place in places(load_table("2"), load_scale("full"), UNKNOWN)
        if place.counted is not None
    }
    assert round(found["vim_base", "baseline"], 4) == 18.8678
    assert round(found["vim_base", "R-MeeTo"], 4) == 13.2068


def comment(recipe):
    """The first lines of a shipped recipe, which say what to expect."""
    text = (files("rmeeto") / "recipes" / f"{recipe}.toml").read_text(encoding="utf-8")
    return " ".join(line.lstrip("# ") for line in text.splitlines() if line.startswith("#"))


@pytest.mark.parametrize("model", ["vim_tiny", "vim_small", "vim_base"])
def test_recipes_promise_what_table_2_prints(model):
    promised = re.search(r"top-1 ([\d.]+) unreduced, ([\d.]+) re-trained; ([\d.]+) → ([\d.]+) G", comment(model))
    whole, merged = (figures("2", model=model, method=method) for method in ("baseline", "R-MeeTo"))
    assert [float(figure) for figure in promised.groups()] == [whole[0], merged[0], whole[1], merged[1]]


def test_the_recipe_for_minutes_promises_what_tables_3_7_and_17_print():
    expected = re.findall(r"([\d.]+) training-free, ([\d.]+) re-trained[;,] (\d+) minutes", comment("minutes"))
    tables = [("vim_small", "17", {"op": "sum"}), ("vim_tiny", "7", {"distance": "cosine"})]
    assert [(float(free), float(trained), int(minutes)) for free, trained, minutes in expected] == [
        (*figures(name, model=model, **labels), round(figures("3", model=model, machines=1)[0]))
        for model, name, labels in tables
    ]


def test_the_zoo_promises_what_table_2_prints():
    for where, figure in printed("2").items():
        place = dict(where)
        if place["method"] == "baseline" and place["column"] == "acc":
            assert ZOO[place["model"]].top1_percent == figure


def test_rmeeto_plan_knows_the_minutes_that_table_3_prints():
    from rmeeto.speed.table3 import GPUS_OF_A_NODE, MINUTES, REDUCTIONS

    for row in load_table("3").rows:
        assert MINUTES[row.model][GPUS_OF_A_NODE * row.coordinates["machines"]] == row.printed["minutes"]
        assert REDUCTIONS[row.model] == f"merge:r={load_scale('full').models[row.model].r}"
