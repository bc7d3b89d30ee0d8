"""Documents name files and names that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src/rmeeto"
FILE = re.compile(r"[\w./-]+\.(?:py|h|cpp|json|md|toml|svg)")

pytestmark = pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="the documents are not in this tree")


def quoted(text):
    """What stands in backticks, code blocks left out."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def steps():
    """The steps of the tour, each with its files and the other names in backticks."""
    text = (ROOT / "docs/tour.md").read_text()
    for step in re.split(r"\n(?=\d+\. )", text)[1:]:
        words = quoted(step)
        files = [word for word in words if FILE.fullmatch(word)]
        yield files, [word for word in words if word not in files]


def test_the_tour_has_ten_steps():
    assert len(list(steps())) == 10


@pytest.mark.parametrize(("files", "names"), list(steps()))
def test_every_file_and_name_of_the_tour_exists(files, names):
    sources = [(PACKAGE / file).read_text() for file in files]
    for name in names:
        for part in name.split("."):
            assert any(re.search(rf"\b{part}\b", source) for source in sources), f"{name} is in none of {files}"


@pytest.mark.parametrize("document", ["CONTRIBUTING.md", "README.md", "docs/methods.md"])
def test_every_file_that_a_document_names_exists(document):
    text = (ROOT / document).read_text()
    named = {word for word in quoted(text) if "/" in word and FILE.fullmatch(word) and "NAME" not in word}
    places = (ROOT, PACKAGE, ROOT / "src/rmeeto/ops", ROOT / "src/rmeeto/reduction")
    missing = [file for file in named if not any((place / file).exists() for place in places)]
    assert missing == []


def test_the_tree_of_the_readme_is_that_of_the_package():
    tree = re.search(r"```\nsrc/rmeeto/\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    entries = re.findall(r"^  (\w[\w.]*/?) ", tree, re.MULTILINE)
    folders = {entry for entry in entries if entry.endswith("/")}
    assert [entry for entry in entries if not (PACKAGE / entry).exists()] == []
    data = {"recipes/", "templates/", "weights/"}
    assert folders == {f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")} - data
