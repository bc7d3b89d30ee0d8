"""The page in a browser: it says what Python says, and what is wrong."""

import base64
import io
import json
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import rmeeto
from chromium import Page, browser
from rmeeto import native
from rmeeto.data.digits import DigitSource
from rmeeto.data.transforms import Preparation, evaluation_transform
from rmeeto.reduction import parse_reduction
from rmeeto.viz.groups import clip_groups, draw_groups
from rmeeto.viz.rows import as_seen
from small_models import model_of

FOLDER = Path(__file__).parents[2] / "docs/playground"
if not FOLDER.is_dir():
    pytest.skip("the documents are not in this tree", allow_module_level=True)
sys.path.insert(0, str(FOLDER))

import build  # noqa: E402
import webassembly  # noqa: E402

BOUND = 1e-4  # logits are of the order of 5; vectors of other widths add in another order
MOST_BYTES = 3e6
ON_ANSWER = "document.addEventListener('answer', event => done(event.detail), {once: true});"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The page's file."""
    if missing := webassembly.missing_packages():
        pytest.skip(f"WebAssembly cannot be compiled: apt-get install {' '.join(missing)}")
    return build.build(tmp_path_factory.mktemp("playground"))


@pytest.fixture(scope="module")
def chromium(built, tmp_path_factory):
    if browser() is None:
        pytest.skip("no Chromium: apt-get install chromium")
    page = Page(tmp_path_factory.mktemp("profile"))
    yield page
    page.close()


@pytest.fixture
def page(chromium, built):
    """The page, freshly loaded and answering. Nothing may be written to its console."""
    chromium.resize(1280, 900)
    chromium.open(built)
    chromium.wait("performance.getEntriesByName('answer').length > 0")
    yield chromium
    assert chromium.messages == []


@pytest.fixture(scope="module")
def digits():
    """The model in the page, as Python has it."""
    return rmeeto.freeze(rmeeto.create_model("vim_digits", pretrained=True, reduction=build.REDUCTION))


def drop(page, name, data, *, waits=True):
    """Drops a file on the page. Returns the answer to it, if it waits for one."""
    script = f"""new Promise(done => {{
        {ON_ANSWER if waits else "done();"}
        const dropped = new DataTransfer();
        const bytes = Uint8Array.from(atob({json.dumps(base64.b64encode(data).decode())}), c => c.charCodeAt(0));
        dropped.items.add(new File([bytes], {json.dumps(name)}));
        dispatchEvent(new DragEvent("drop", {{dataTransfer: dropped}}));
    }})"""
    return page.run(script)


def slide(page, name, *values):
    """Moves a slider, without a pause between its values. Returns the answer to the last one."""
    return page.run(f"""new Promise(done => {{
        const slider = document.getElementById({json.dumps(name)});
        const values = {json.dumps(values)};
        document.addEventListener("answer", function hear(event) {{
            if (!event.detail.isLast) return;
            document.removeEventListener("answer", hear);
            done(event.detail);
        }});
        for (const value of values) {{
            slider.value = value;
            slider.dispatchEvent(new Event("input"));
        }}
    }})""")


def text(page, name):
    return page.run(f"document.getElementById({json.dumps(name)}).textContent")


def png(picture):
    buffer = io.BytesIO()
    picture.save(buffer, "png")
    return buffer.getvalue()


def photo(width=90, height=61):
    coarse = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


@torch.inference_mode()
def expected(model, image, block):
    """Logits, and the group of each patch after a block, as `rmeeto show` has them."""
    tokens = model.trace(image[None]).blocks[block]
    return model(image[None])[0].numpy(), clip_groups(tokens, model.config).ravel()


def prepared(model, picture, *, glyphs):
    return evaluation_transform(Preparation.of(model), glyphs=glyphs)(picture)


def test_ten_digits_get_the_answer_and_the_groups_of_python(page, digits):
    source = DigitSource("val")
    for index in range(20, 520, 50)[:10]:
        picture = source.read(index % 500)
        answer = drop(page, "digit.png", png(picture))
        logits, groups = expected(digits, prepared(digits, picture, glyphs=True), answer["block"])
        np.testing.assert_allclose(answer["logits"], logits, rtol=0, atol=BOUND)
        assert np.argmax(answer["logits"]) == logits.argmax()
        assert answer["groups"] == groups.tolist()
        assert text(page, "answer").split()[0] == str(logits.argmax())


def test_the_drawing_is_that_of_show(page, digits):
    picture = DigitSource("val").read(7)
    block = drop(page, "digit.png", png(picture))["block"]
    image = prepared(digits, picture, glyphs=True)
    _, groups = expected(digits, image, block)
    drawn = np.asarray(draw_groups(as_seen(image, Preparation.of(digits)), groups.reshape(digits.config.grid)))
    shape, pixels = page.run("""(() => {
        const canvas = document.getElementById("groups");
        const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        let text = "";
        for (const value of data) text += String.fromCharCode(value);
        return [[canvas.height, canvas.width, 4], btoa(text)];
    })()""")
    shown = np.frombuffer(base64.b64decode(pixels), np.uint8).reshape(shape)[..., :3]
    assert shown.shape == drawn.shape
    assert np.abs(shown.astype(int) - drawn).max() <= 1


def test_every_r_and_every_block_is_that_of_python(page, digits):
    picture = DigitSource("val").read(11)
    image = prepared(digits, picture, glyphs=True)
    drop(page, "digit.png", png(picture))
    most = int(page.run("document.getElementById('r').max"))
    assert most == 32
    for r in (0, 8, 19, most):
        answer = slide(page, "r", r)
        model = rmeeto.create_model("vim_digits", pretrained=True, reduction=parse_reduction(f"merge:r={r}"))
        assert answer["removed"] == list(model.schedule.counts)
        for block in (2, 7):
            answer = slide(page, "block", block)
            logits, groups = expected(rmeeto.freeze(model), image, block)
            np.testing.assert_allclose(answer["logits"], logits, rtol=0, atol=BOUND)
            assert answer["groups"] == groups.tolist()
            assert text(page, "block-tokens") == f"{model.schedule.tokens[block]} of 65 tokens"


def test_quick_moves_end_with_the_last(page):
    answer = slide(page, "r", *range(33), *range(31, 4, -1))
    assert answer["removed"] == [0, 0, 5, 0, 5, 0, 5, 0]
    page.wait("document.getElementById('speed').textContent.startsWith('Merging')")
    assert float(text(page, "whole-time")) > 0
    assert text(page, "merged-tokens") == "50"


@pytest.mark.parametrize("reduction", ["merge:r=5", "stm:r=9,guard=1", None])
def test_another_model_is_dropped_in_with_its_names_and_its_preparation(reduction, page, tmp_path):
    model = rmeeto.freeze(model_of(reduction=reduction and parse_reduction(reduction)))
    names = [f"kind <{label}>" for label in range(model.num_classes)]
    path = native.save(model, tmp_path / "other.rmeeto", name="other", class_names=names)
    drop(page, "photo.png", png(photo()))
    answer = drop(page, "other.rmeeto", path.read_bytes())
    logits, groups = expected(model, prepared(model, photo(), glyphs=False), answer["block"])
    np.testing.assert_allclose(answer["logits"], logits, rtol=1e-4, atol=BOUND)
    assert answer["groups"] == groups.tolist()
    assert text(page, "answer").startswith(names[logits.argmax()])
    assert text(page, "kicker").endswith("other")
    most = int(page.run("document.getElementById('r').max"))
    removed = slide(page, "r", most)["removed"]
    line = f"stm:r={most},guard=1" if reduction and reduction.startswith("stm") else f"merge:r={most}"
    assert removed == list(model_of(reduction=parse_reduction(line)).schedule.counts)
    assert text(page, "problem-text") == ""


def test_a_model_of_clips_gets_a_picture_that_stands_still(page, tmp_path):
    model = rmeeto.freeze(model_of("videomamba_tiny_video", frames=4, reduction=parse_reduction("merge:r=7")))
    path = native.save(model, tmp_path / "clips.rmeeto")
    drop(page, "photo.png", png(photo()))
    answer = drop(page, "clips.rmeeto", path.read_bytes())
    clip = prepared(model, photo(), glyphs=False)[:, None].repeat(1, 4, 1, 1)
    logits, groups = expected(model, clip, answer["block"])
    np.testing.assert_allclose(answer["logits"], logits, rtol=1e-4, atol=BOUND)
    assert answer["groups"] == groups.tolist()
    assert "clips of 4 frames" in text(page, "note-text")


def test_a_model_that_finds_no_memory_gives_way_to_the_digits(page, built, tmp_path):
    start = "run({ removed, shown }) {"
    trap = "if (model.description.name === 'large') throw new WebAssembly.RuntimeError('unreachable');"
    assert start in built.read_text()
    other = tmp_path / "index.html"
    other.write_text(built.read_text().replace(start, start + trap))
    page.open(other)
    page.wait("performance.getEntriesByName('answer').length > 0")
    path = native.save(model_of(), tmp_path / "large.rmeeto", name="large")
    assert len(drop(page, "large.rmeeto", path.read_bytes())["logits"]) == 10
    assert "more memory than this page can have" in text(page, "problem-text")
    assert text(page, "kicker").endswith("vim_digits")


DAMAGED = [
    ("notes.txt", lambda _: b"not a picture", "notes.txt is no picture that this browser can decode"),
    ("empty", lambda _: b"", "empty is no picture that this browser can decode"),
    ("cut.png", lambda _: png(photo())[:200], "cut.png is no picture that this browser can decode"),
    ("empty.rmeeto", lambda _: b"", "empty.rmeeto cannot be opened: "),
    ("garbage.rmeeto", lambda _: bytes(range(256)) * 9, "garbage.rmeeto cannot be opened: "),
    ("short.rmeeto", lambda data: data[: len(data) // 2], "short.rmeeto cannot be opened: "),
    ("unnamed", lambda data: data[:-4], "unnamed cannot be opened: "),
    ("later.rmeeto", lambda data: data.replace(b'\\"version\\": 1', b'\\"version\\": 9'), "a file of version 9"),
]


def test_damaged_files_are_refused_in_words_and_the_page_goes_on(page):
    data = base64.b64decode(text(page, "model-bytes"))
    picture = DigitSource("val").read(3)
    for name, damage, why in DAMAGED:
        drop(page, name, damage(data), waits=False)
        page.wait("!document.getElementById('problem').hidden")
        assert why in text(page, "problem-text")
        # The page answers once more about what it had, and then about the picture.
        drop(page, "digit.png", png(picture), waits=False)
        page.wait("document.getElementById('problem').hidden")
    assert slide(page, "r", 3)["removed"] == [0, 0, 3, 0, 3, 0, 3, 0]


def test_models_of_other_channels_are_refused(page, tmp_path):
    path = native.save(model_of(in_chans=2, mean=(0.5, 0.5), std=(0.5, 0.5)), tmp_path / "two.rmeeto")
    drop(page, "two.rmeeto", path.read_bytes())
    assert (
        text(page, "problem-text")
        == "two.rmeeto cannot be opened: it takes 2 channels; pictures have 1 (grey) or 3 (colour)"
    )
    assert text(page, "kicker").endswith("vim_digits")


def test_a_large_photo_is_made_smaller_first(page):
    large = Image.new("L", (6000, 4000), 90)
    drop(page, "large.png", png(large))
    assert "from 6000 × 4000 to 5016 × 3344 pixels" in text(page, "note-text")


def mouse(page, kind, x, y):
    page.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)


def place(page):
    """The pad's left upper corner and side, on the screen."""
    return page.run(
        "(({left, top, width}) => [left, top, width])(document.getElementById('pad').getBoundingClientRect())"
    )


def test_what_is_drawn_is_read_even_if_the_window_changes_in_the_middle(page):
    points = [(0.5 + 0.17 * math.sin(angle), 0.5 - 0.3 * math.cos(angle)) for angle in np.linspace(0, 2 * math.pi, 40)]
    for number, (x, y) in enumerate(points):
        if number == 20:
            page.resize(390, 844)
        left, top, side = place(page)
        mouse(page, "mouseMoved" if number else "mousePressed", left + x * side, top + y * side)
    mouse(page, "mouseReleased", left + x * side, top + y * side)
    page.wait("document.getElementById('answer').textContent.startsWith('0')")
    assert page.run("document.getElementById('clear').click()") is None
    page.wait("document.getElementById('answer').textContent.startsWith('Nothing')")


def test_no_window_is_too_narrow(page):
    for width in (320, 390, 768, 1280):
        page.resize(width, 800)
        assert page.run("document.documentElement.scrollWidth") <= width
        assert page.run("document.getElementById('pad').getBoundingClientRect().right") <= width


def test_everything_that_can_be_operated_has_a_name(page):
    unnamed = page.run("""[...document.querySelectorAll("button, canvas[id], svg, input:not([hidden])")]
        .filter(element => !(element.textContent.trim() || element.ariaLabel || element.labels?.length))
        .map(element => element.outerHTML)""")
    assert unnamed == []


def test_the_page_is_small_and_asks_for_nothing(built, page):
    assert built.stat().st_size <= MOST_BYTES
    addresses = set(re.findall(r"https?://[\w./]+", built.read_text()))
    assert addresses == {"http://www.w3.org/2000/svg"}
    assert (
        page.run("performance.getEntriesByType('resource').filter(entry => !entry.name.startsWith('blob:')).length")
        == 0
    )


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setattr(webassembly.shutil, "which", lambda _: None)
    with pytest.raises(webassembly.CannotBuild, match=r"apt-get install clang lld wasi-libc libc\+\+-14-dev-wasm32 "):
        webassembly.compile_library()


@pytest.mark.skipif(bool(webassembly.missing_packages()), reason="WebAssembly cannot be compiled here")
def test_the_version_of_the_packages_is_that_of_clang(monkeypatch):
    answer = webassembly._output
    monkeypatch.setattr(webassembly, "_output", lambda *command: answer(*command) if len(command) == 2 else "none")
    version = re.search(r"version (\d+)", answer("clang++", "--version"))[1]
    libraries = [f"libc++-{version}-dev-wasm32", f"libc++abi-{version}-dev-wasm32", f"libclang-rt-{version}-dev-wasm32"]
    assert webassembly.missing_packages() == ["wasi-libc", *libraries]
