"""The page of the tables: complete, made from the store alone, repeatable, self-contained."""

import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pytest

from experiment_results import result_of
from rmeeto.experiments.definition import load_table, parse_table
from rmeeto.experiments.page import page, write_page
from rmeeto.experiments.plan import places
from rmeeto.experiments.scale import load_scale
from rmeeto.experiments.store import Speed, Store
from rmeeto.experiments.summary import overall, summary, undecidable

SMALL, DATA, SEEDS = load_scale("small"), {"images": "abc", "clips": None}, 3
TOY = """
title = "Odd text: <b>bold</b> & \\"quoted\\" $x_1$ | `rmeeto plan`"
place = "Table 0"
section = "3"
small = "Run `rmeeto table` <now>."
seeds = 6
beyond = true

[[column]]
key = "free"
title = "training-free <i>"

[[column]]
key = "trained"
title = "re-trained"
training = "minutes"

[[row]]
model = "vim_tiny"
reduction = "merge:{amount}"
labels = { method = "<script>alert(1)</script>" }
printed = { free = 50.0 }

[[row]]
model = "vim_tiny"
reduction = "prune:{amount}"
labels = { method = "a | b $y$" }

[[row]]
model = "vim_tiny"
reduction = "random-prune:{amount}"
labels = { method = "c" }

[[row]]
model = "vim_base"
reduction = "random-prune:{amount}"
labels = { method = "d" }

[[row]]
model = "vim_small"
reduction = "merge:{amount}"
labels = { method = "c" }

[[claim]]
text = "Merging <u>wins</u>."
kind = "better"
left = { method = "<script>alert(1)</script>" }
right = { method = "a | b $y$" }
where = { column = "free", model = "vim_tiny" }

[[claim]]
text = "Pruning wins."
kind = "better"
left = { method = "a | b $y$" }
right = { method = "<script>alert(1)</script>" }
where = { column = "free", model = "vim_tiny" }

[[claim]]
text = "Two prunings are equal."
kind = "equal"
left = { method = "a | b $y$" }
right = { method = "c" }
margin = 0.5
where = { column = "trained", model = "vim_tiny" }

[[claim]]
text = "Vim-B is better re-trained."
kind = "better"
left = { column = "trained" }
right = { column = "free" }
where = { model = "vim_base" }
"""
TABLES = [load_table("5a"), load_table("10"), parse_table("toy", TOY)]
WORDS = ("holds", "does not hold", "undecided", "not testable here", "not run yet")


def filled(folder, share):
    """A store with this share of the cells. Merging is better than pruning, shuffling costs accuracy."""
    store = Store(folder)
    for table in TABLES:
        for place in places(table, SMALL, DATA, SEEDS):
            for cell in place.cells:
                drawn = np.random.default_rng(int(cell.key, 16) % 2**32)
                accuracy = 0.7 - 0.4 * place.coordinates.get("shuffle", 0) - 0.3 * ("prune" in place.reduction)
                if drawn.random() < share:
                    store.add(cell, result_of(cell, drawn.random(300) < accuracy))
    return store


def summaries(store):
    return [summary(table, SMALL, DATA, store, SEEDS) for table in TABLES]


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    return {share: filled(tmp_path_factory.mktemp("store"), share) for share in (0.0, 0.6, 1.0)}


@pytest.fixture(scope="module")
def pages(stores):
    return {share: page(summaries(store), store) for share, store in stores.items()}


EMPTY = {"meta", "br", "path", "use", "defs", "g", "svg", "rect"}
LINES = {"p", "div", "td", "th", "li", "h1", "h2", "h3", "dt", "dd", "summary", "figcaption", "title"}


class Read(HTMLParser):
    """Text, tags, ids and addresses of a page; tags must be closed in order."""

    def __init__(self, html):
        super().__init__()
        self.text, self.tags, self.ids, self.addresses, self.open = [], set(), [], [], []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.ids += [value for name, value in attributes if name == "id"]
        self.addresses += [v for k, v in attributes if k.split(":")[-1] in ("src", "href", "srcset", "action", "data")]
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in EMPTY:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in EMPTY:
            assert self.open.pop() == tag
        if tag in LINES:
            self.text.append(" ")

    def handle_data(self, data):
        self.text.append(data)

    def plain(self):
        return " ".join("".join(self.text).split())


@pytest.mark.parametrize("share", [0.0, 0.6, 1.0])
def test_every_table_claim_word_and_sentence_is_on_the_page(stores, pages, share):
    text = Read(pages[share]).plain()
    for one in summaries(stores[share]):
        assert f"{one.table.place}. {one.table.title}" in text
        for judged in one.judged:
            claim = judged.claim.text.replace("`", "")
            assert f"{judged.word} {claim} {judged.sentence}" in text, "in the table's own section"
            assert text.count(claim) >= 2, "and in the list of all claims"


@pytest.mark.parametrize("share", [0.0, 0.6, 1.0])
def test_the_page_is_whole_and_loads_nothing(pages, share):
    html = pages[share]
    read = Read(html)
    assert not {"script", "link", "iframe", "object", "embed", "base", "img", "u", "i"} & read.tags
    assert all(address.startswith(("#", "data:text/")) for address in read.addresses)
    assert {address[1:] for address in read.addresses if address.startswith("#")} <= set(read.ids)
    assert len(read.ids) == len(set(read.ids))
    assert html.count("://") == len(re.findall(r'xmlns(?::\w+)?="[^"]*"', html)), "SVG's dialects are never fetched"
    assert "@import" not in html


def test_the_same_store_gives_the_same_page(stores, pages, tmp_path):
    for name in ("one.html", "two.html"):
        again = Store(stores[0.6].folder)
        write_page(tmp_path / name, summaries(again), again)
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes() == pages[0.6].encode()
    assert str(stores[0.6].folder) not in pages[0.6]


def test_a_store_moved_elsewhere_gives_the_same_page(stores, pages, tmp_path):
    for file in stores[1.0].folder.glob("*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    moved = Store(tmp_path)
    assert page(summaries(moved), moved) == pages[1.0]


def test_words_are_counted(stores, pages):
    counts = overall(summaries(stores[1.0]))
    tiles = [int(count) for count in re.findall(r'<td class="tile [^"]*"><span>(\d+)</span></td>', pages[1.0])]
    of_paper, counted, of_toy = (dict(zip(WORDS, tiles[at : at + 5], strict=True)) for at in (0, 5, 10))
    assert len(tiles) == 15
    assert {word: of_paper[word] + counted[word] + of_toy[word] for word in counts} == counts
    assert counted == dict.fromkeys(WORDS, 0) | {"holds": 1}, "the claim of Table 10"
    assert sum(of_toy.values()) == 4, "the toy's claims are ours"
    assert {"holds", "does not hold", "undecided", "not testable here"} <= counts.keys()
    hopeless = undecidable(summaries(stores[1.0]))
    assert 0 < hopeless <= counts["undecided"]
    assert f"<p>{hopeless} of the undecided claims" in pages[1.0]


def test_an_empty_store_says_so(stores, pages):
    text = Read(pages[0.0]).plain()
    keys = {key for one in summaries(stores[0.0]) for line in one.figures for figure in line for key in figure.keys}
    assert "The store is empty" in text
    assert f"0 of {len(keys)} cells" in text
    assert "3 to run" in text
    assert "not run yet" in text
    assert "What holds most clearly" not in text


def test_figures_stand_beside_the_printed_ones(stores, pages):
    (one, _, _) = summaries(stores[1.0])
    figure = one.figures[0][1]  # re-trained, three times
    cells = [unescape(text) for text in re.findall(r"<td[^>]*>([^<]*)</td>", pages[1.0])]
    shown = [f"{figure.printed:.1f}", f"{figure.ours:.1f} ± {figure.spread:.1f}"]
    assert any(cells[place : place + 2] == shown for place in range(len(cells)))
    assert f"{figure.ours - figure.printed:+.1f}".replace("-", "−") not in cells, "a small network is no larger one"


def test_every_cell_is_listed_with_its_figure(stores, pages):
    html = pages[0.6]
    for key, result in stores[0.6]._results.items():
        assert f'<tr><td class="label"><code>{key}</code>' in html
        assert f"<td>{result.top1_percent:.2f} %</td>" in html


def test_text_is_escaped(pages):
    html = pages[1.0]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "<script" not in html
    assert "Odd text: &lt;b&gt;bold&lt;/b&gt; &amp; " in html
    assert "<b>bold" not in html
    assert "<code>rmeeto table</code> &lt;now&gt;" in html


def test_charts_take_all_their_colours_from_the_page(pages):
    charts = re.findall(r"<svg.*?</svg>", pages[1.0], re.DOTALL)
    # of Table 5a the paper's and ours in two columns, of Table 10 both in one, of the toy ours in two and the paper's
    # none, since it prints one figure
    assert len(charts) == 7
    for chart in charts:
        assert not re.search(r"#[0-9a-f]{6}\b", chart)
        assert all("fill: var(--" in text for text in re.findall(r"<text[^>]*>", chart))


def test_charts_of_a_store_without_results_show_what_the_paper_prints(pages):
    assert len(re.findall("<svg", pages[0.0])) == 3


def test_what_the_cells_ran_with_is_told_with_its_share(stores, tmp_path):
    store = Store(tmp_path)
    for number, result in enumerate(list(stores[1.0]._results.values())[:5]):
        changed = replace(result, machine={"processor": "Eight & Co"}, commit="abc") if number < 2 else result
        store._results[result.key] = changed
    text = Read(page(summaries(store), store)).plain()
    assert "Eight & Co (2 cells)" in text
    assert "abc (2 cells)" in text
    assert "an installed package, of no commit (3 cells)" in text


def marked(text):
    """The toy with one claim marked as a main one."""
    return parse_table("toy", TOY.replace(f'text = "{text}"', f'text = "{text}"\nmain = true'))


def test_a_claim_that_is_marked_leads_and_is_not_told_again(stores):
    table, store = marked("Merging <u>wins</u>."), stores[1.0]
    one = summary(table, SMALL, DATA, store, SEEDS)
    top = page([one], store).partition("All tables and claims")[0]
    assert "The main claims" in top
    assert "The main claims" not in page([summary(TABLES[2], SMALL, DATA, store, SEEDS)], store)
    assert re.search(r'<span class="word holds">holds</span> <b>Merging &lt;u&gt;wins.*href="#table-toy-claim-1"', top)
    assert top.count("Merging &lt;u&gt;wins") == 1
    assert "What else" not in top, "Pruning wins quotes the same comparison from the other side"


def test_a_mark_changes_no_cell():
    plain, other = (
        [cell.key for place in places(table, SMALL, DATA) for cell in place.cells]
        for table in (TABLES[2], marked("Pruning wins."))
    )
    assert plain == other


def test_what_the_papers_own_figures_say_stands_by_the_claim(tmp_path):
    store = Store(tmp_path)
    tables = [load_table(name) for name in ("10", "11", "19")]
    text = Read(page([summary(table, SMALL, DATA, store) for table in tables], store)).plain()
    of_10, of_11, of_19 = (text.split(f"{table.place}. {table.title}")[1].split("This table as")[0] for table in tables)
    assert "printed figures" not in of_10, "counted figures are compared with them anyway"
    assert re.search("lower the accuracy. It needs .* cells. By the paper’s own printed figures: not true.", of_11)
    assert of_19.count("By the paper’s own printed figures: true.") == len(tables[2].claims)


def test_what_every_comparison_shares_is_said_once(stores, pages):
    (one, _, _) = summaries(stores[1.0])
    table = pages[1.0].partition('id="table-5a-claim-1"')[2].partition("</table>")[0]
    heads = re.findall(r'<th scope="col">([^<]*)</th>', table)
    assert "In every line: by image, n 300, margin 0." in table
    assert heads == ["", "difference", "95 % from", "to", "p, above the margin", "p, below the margin", "test"]
    assert table.count('<th scope="row"') == len(one.judged[0].verdict.figures)


def test_a_long_table_is_folded_and_its_charts_are_not(stores):
    html = page([summary(load_table("class-token"), SMALL, DATA, stores[0.0])], stores[0.0])
    assert "<summary>All 90 rows</summary>" in html
    assert "<summary>All" not in page([summary(load_table("11"), SMALL, DATA, stores[0.0])], stores[0.0])


def test_the_page_tells_how_its_models_were_trained(stores, pages):
    assert "<td>6</td><td>1</td><td>128</td><td>0.003</td>" in pages[1.0]
    assert "<td>1</td><td>0.09</td><td>64</td><td>0.0005</td>" in pages[1.0]
    assert "stands for a" in pages[1.0]


def test_full_scale_is_not_told_as_a_small_one(tmp_path):
    store = Store(tmp_path)
    html = page([summary(load_table("5a"), load_scale("full"), {"images": None, "clips": None}, store)], store)
    assert "Models, weights and data are the paper" in html
    assert "It cannot" not in html
    assert "stands for a" not in html
    assert "ImageNet-1K" in html


SPEEDS = """
title = "Speeds"
place = "Table 0"
section = "3"
small = "the same"

[[column]]
key = "acc"
title = "training-free"

[[column]]
key = "here"
title = "images/s on this machine"
measure = "images_per_second"
digits = 0

[[row]]
model = "vim_tiny"
reduction = "merge:{amount}"
labels = { r = [0, 5, 11] }
"""


def test_accuracy_is_shown_against_measured_speed(tmp_path):
    table, store = parse_table("speeds", SPEEDS), Store(tmp_path)
    before = page([summary(table, SMALL, DATA, store, SEEDS)], store)
    for place in places(table, SMALL, DATA, SEEDS):
        for cell in place.cells:
            rate = 1000.0 + 40 * place.coordinates["r"]
            speed = Speed(32, (rate, rate + 2, rate + 1), (1000.0, 1000.0, 1000.0)) if cell.work == "speed" else None
            store.add(cell, result_of(cell, speed=speed))
    html = page([summary(table, SMALL, DATA, store, SEEDS)], store)
    assert "top-1 accuracy in % over images per second" in html
    assert "top-1 accuracy in % over images per second" not in before
    assert "<td>1,201 images/s</td>" in html
    assert '<td class="ours start">1201</td>' in html
