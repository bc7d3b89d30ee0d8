"""Plain words: phrases that readers outside the project stumble over do not occur in sources and documents."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "docs/*.md")
SOURCES = ("src/**/*.py", "src/**/*.h", "src/**/*.cpp", "src/**/*.toml", "src/**/*.j2")
PHRASES = {
    "nobody": r"\b(nobody|somebody|anybody|everybody|whoever|whomever)\b",  # name the subject
    "those alone": r"\bthose alone\b",
    "none at all": r"\bnone at all\b",
    "the ordinary way": r"\bordinary way\b",
    "None where": r"\bnone where\b",  # None if …, and what happens then
    "as ever": r"\b(as ever|as it ever is|ever is)\b",
    "said aloud": r"\baloud\b",
    "what there is": r"\bwhat there (is|was)\b",
}


def phrases(path):
    """The phrases in a file, in one line each, so that a line break hides none."""
    text = re.sub(r"\s*\n\s*(//|#|\*)?\s*", " ", path.read_text())
    return [match.group() for pattern in PHRASES.values() for match in re.finditer(pattern, text, re.IGNORECASE)]


@pytest.mark.skipif(not (ROOT / "README.md").is_file(), reason="the documents are not in this tree")
def test_documents_use_plain_words():
    files = [path for pattern in DOCUMENTS for path in ROOT.glob(pattern)]
    assert {str(path.relative_to(ROOT)): found for path in files if (found := phrases(path))} == {}


def test_sources_use_plain_words():
    package = ROOT / "src/rmeeto"
    found = {
        str(path.relative_to(package)): phrases(path)
        for pattern in SOURCES
        for path in ROOT.glob(pattern)
        if phrases(path)
    }
    assert found == {}


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("None where it\ncannot be told", 1),
        ("# kept for those\n# alone who ask", 1),
        ("None if it is unknown, and then the reference runs", 0),
    ],
)
def test_phrases_are_found_across_lines(tmp_path, text, count):
    path = tmp_path / "text.py"
    path.write_text(text)
    assert len(phrases(path)) == count
