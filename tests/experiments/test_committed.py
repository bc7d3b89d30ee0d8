"""The store and the page in docs/: the small suite is whole, and the page is what the store gives, byte for byte."""

from pathlib import Path

import pytest

from rmeeto.experiments.definition import list_tables, load_table
from rmeeto.experiments.page import page
from rmeeto.experiments.scale import load_scale
from rmeeto.experiments.store import Store
from rmeeto.experiments.summary import summary

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def found():
    scale, kept = load_scale("small"), Store(DOCS / "store")
    assert not kept.problems
    prints = {name: data.fingerprint for name, data in scale.data.items()}
    return [summary(load_table(name), scale, prints, kept) for name in list_tables()], kept


def test_every_cell_has_run_and_every_claim_has_a_verdict(found):
    tables, _ = found
    assert not [one.table.name for one in tables if not one.complete]
    assert all(judged.verdict is not None for one in tables for judged in one.judged)


def test_the_page_is_what_the_store_gives(found):
    assert page(*found) == (DOCS / "paper.html").read_text("utf-8"), (
        "rmeeto table --all --scale small --store docs/store --page docs/paper.html writes it anew"
    )


def test_the_store_is_small():
    assert sum(file.stat().st_size for file in (DOCS / "store").iterdir()) < 8e6
