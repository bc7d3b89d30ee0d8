"""Pictures and known mutual information on the page."""

import base64
import re
from html import unescape
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from experiment_results import drawn, estimated
from rmeeto.experiments.calibration import calibrations
from rmeeto.experiments.definition import load_table
from rmeeto.experiments.export import to_csv, to_markdown
from rmeeto.experiments.gallery import galleries
from rmeeto.experiments.page import page
from rmeeto.experiments.plan import places
from rmeeto.experiments.scale import load_scale
from rmeeto.experiments.store import Store
from rmeeto.experiments.summary import summary

SMALL, DATA = load_scale("small"), {"images": "abc", "clips": "abc"}
IMAGE = re.compile(r'<img src="data:image/png;base64,([^"]+)" alt="([^"]+)">')


def filled(folder, name):
    store = Store(folder)
    for place in places(load_table(name), SMALL, DATA):
        for cell in place.cells:
            if cell.work == "pictures":
                store.add(cell, drawn(cell, frames=3 if name == "fig5" else 1))
            if cell.work == "nats":
                store.add(cell, estimated(cell, {"mine": [2.0], "infonce": [3.0], "ksg": [1.0]}))
    return store, summary(load_table(name), SMALL, DATA, Store(folder))


def opened(text):
    return Image.open(BytesIO(base64.b64decode(text))).convert("RGB")


@pytest.mark.parametrize(("name", "pictures"), [("fig4", 2 * 3), ("fig5", 2 * 3 * 3)])
def test_images_stand_beside_their_groups(tmp_path, name, pictures):
    store, one = filled(tmp_path, name)
    found = IMAGE.findall(page([one], store))
    assert len(found) == pictures
    sizes = {opened(text).size for text, _ in found}
    assert sizes == {(8, 8), (192, 192)}
    groups = 24 if name == "fig5" else 8
    (alt,) = {unescape(alt) for _, alt in found if "cat, base" in alt and ("Frame 1" in alt or name == "fig4")}
    of = "Frame 1 of a clip" if name == "fig5" else "Image"
    assert alt == f"{of} of the class cat, base model: its {2 * groups} patches in {groups} groups"


def test_a_drawing_has_the_colours_of_its_groups(tmp_path):
    store, one = filled(tmp_path, "fig4")
    (first, second) = (
        np.asarray(opened(strip.lines[1].panels[0].address.split(",")[1])) for strip in galleries(one, store)[0].strips
    )
    red = (first == [200, 0, 0]).all(-1)
    assert 0.8 < red.mean() < 1
    flat = second[2:46, 6:90]  # two patches of 48 pixels side by side, without their borders
    assert (flat == flat[0, 0]).all()
    assert (second[2:46, 102:186] != flat[0, 0]).any()


def test_the_same_store_gives_the_same_pictures(tmp_path):
    store, one = filled(tmp_path, "fig5")
    again = Store(store.folder)
    assert page([one], store) == page([summary(one.table, SMALL, DATA, again)], again)


def test_names_of_classes_are_escaped(tmp_path):
    store, one = filled(tmp_path, "fig4")
    html = page([one], store)
    assert "<dog>" not in html
    assert "&lt;dog&gt;" in html


@pytest.mark.parametrize("name", ["fig4", "fig5"])
def test_a_place_of_pictures_says_whether_they_are_drawn(tmp_path, name):
    empty = summary(load_table(name), SMALL, DATA, Store(tmp_path / "empty"))
    assert "| 1 to run |" in to_markdown([empty])
    assert galleries(empty, Store(tmp_path / "empty")) == []
    store, one = filled(tmp_path, name)
    assert "| drawn |" in to_markdown([one])
    assert "pictures,merge:ratio=" in to_csv([one])
    assert "<td>2 pictures</td>" in page([one], store)
    one.to_dict()  # for --json


def test_known_information_stands_beside_the_estimates(tmp_path):
    store, one = filled(tmp_path, "fig2iii")
    (known,) = calibrations(one, store)
    assert known.heads == ("known", "mine", "infonce", "ksg")
    assert [line[0] for line in known.lines] == ["1", "2"]
    assert known.lines[0][1] == "0.53 ± 0.02"  # six seeds, each with Gaussians of its own; all models share them
    assert "4,000 samples of 64 columns" in known.note
    html = page([one], store)
    assert "0.53 ± 0.02" in html
    assert "mine 2.00, infonce 3.00, ksg 1.00 nats" in html
    assert "vim_small minus deit_small is MINE 0.00, InfoNCE 0.00, KSG on projections 0.00 nats" in html
    assert calibrations(summary(one.table, SMALL, DATA, Store(tmp_path / "empty")), Store(tmp_path / "empty")) == []
