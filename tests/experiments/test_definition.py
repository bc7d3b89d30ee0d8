import pytest

from rmeeto.errors import ConfigError, UnknownName
from rmeeto.experiments.definition import list_tables, load_table, parse_table

SMALLEST = """
title = "T"
place = "Table 0"
section = "3"
small = "the same"

[[column]]
key = "free"
title = "training-free"

[[row]]
model = "vim_tiny"
reduction = "merge:{amount}"
labels = { share = [0.1, 0.2] }
printed = { free = [50.0, "—"] }

[[claim]]
text = "It falls."
kind = "monotone"
along = "share"
"""


def test_a_list_of_labels_makes_one_row_for_each():
    first, second = parse_table("toy", SMALLEST).rows
    assert first.coordinates == {"model": "vim_tiny", "share": 0.1}
    assert second.coordinates == {"model": "vim_tiny", "share": 0.2}
    assert (first.printed, second.printed) == ({"free": 50.0}, {})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (('key = "free"', 'key = "free"\nkind = 3'), "field of a column"),
        (('printed = { free = [50.0, "—"] }', "printed = { fre = [1.0, 2.0] }"), "did you mean free"),
        (('printed = { free = [50.0, "—"] }', "printed = { free = [50.0] }"), "do not fit the labels"),
        (('reduction = "merge:{amount}"', ""), "one reduction"),
        (('kind = "monotone"', 'kind = "monoton"'), "did you mean monotone"),
        (('along = "share"', 'along = "shar"'), "did you mean share"),
        (('along = "share"', ""), "names the label"),
        (('kind = "monotone"\nalong = "share"', 'kind = "better"\nleft = { share = 0.1 }'), "two sides differ"),
        (("labels = { share = [0.1, 0.2] }", "labels = { share = [0.1, 0.1] }"), "same labels"),
        (('title = "T"', "title = 3"), "title in table toy"),
        (('title = "T"', ""), "missing"),
        (('title = "T"', "title = "), "not TOML"),
    ],
)
def test_a_wrong_table_is_refused_with_the_reason(change, says):
    assert change[0] in SMALLEST
    with pytest.raises((ConfigError, UnknownName), match=says):
        parse_table("toy", SMALLEST.replace(*change))


def test_tables_come_in_the_papers_order():
    names = list_tables()
    assert names.index("5a") < names.index("10")


@pytest.mark.parametrize("name", ["5a", "5A", "Table 5a", "table5a"])
def test_a_table_is_found_by_what_people_call_it(name):
    assert load_table(name).place == "Table 5a"


def test_an_unknown_table_suggests_the_nearest():
    with pytest.raises(UnknownName, match="5a"):
        load_table("5c")
