"""The kernels execute as many instructions as when their speed was measured: a guard that no busy machine upsets."""

import re
import shutil

import pytest

from instruction_counts import INSTRUCTION_SETS, INTERFACE, built_with, changes, count, driver_compiler, stored
from rmeeto.ops.impl import cpp

TOLERANCE = 0.05


def why_not(instruction_set):
    """What is missing here, or None."""
    if cpp.absence() is not None:
        return f"no C++ kernels: {cpp.absence()}"
    if not shutil.which("valgrind"):
        return "no valgrind (apt-get install valgrind)"
    if driver_compiler() is None:
        return "no C++ compiler for the driver"
    usable = cpp.use_instruction_set(instruction_set)
    cpp.use_instruction_set(None)
    if not usable:
        return f"this processor has no {instruction_set}"
    compiler = built_with(cpp.library_path())
    if instruction_set not in stored().get(compiler, {}):
        return f"no figures stored for {compiler}, {instruction_set} (python tests/instruction_counts.py stores them)"
    return None


@pytest.mark.parametrize("instruction_set", INSTRUCTION_SETS)
def test_kernels_execute_as_many_instructions_as_stored(instruction_set):
    if reason := why_not(instruction_set):
        pytest.skip(reason)
    library = cpp.library_path()
    expected = stored()[built_with(library)][instruction_set]
    found = changes(count(library, instruction_set), expected, TOLERANCE)
    hint = "if that is meant, and measured: python tests/instruction_counts.py"
    assert not found, "\n".join([*found, hint])


def test_every_kernel_is_counted():
    # a Watch is what a frozen model was made from: comparing it computes no tensor, and needs a running Python
    entry_points = re.findall(
        r"EXPORT (?:bool|int) rmeeto_(\w+)\(const (?!Watch)[A-Z]\w+\*", (INTERFACE / "library.cpp").read_text()
    )
    assert len(entry_points) >= 10
    for sets in stored().values():
        for counts in sets.values():
            assert {name.split()[0] for name in counts} == set(entry_points)


def test_a_search_executes_what_the_rows_see():
    """A quarter of the columns, so well below half of the instructions; finding the ends of ranges costs some."""
    for sets in stored().values():
        for counts in sets.values():
            assert counts["find_nearest cosine seen"] < counts["find_nearest cosine"] / 2


def test_more_fewer_and_unknown_are_noticed():
    stored = {"scan": 1000, "conv": 1000, "merge": 1000, "pairs": 1000}
    found = {"scan": 1051, "conv": 949, "merge": 1049, "nearest": 1}
    assert [line.split(":")[0] for line in changes(found, stored, TOLERANCE)] == ["conv", "nearest", "pairs", "scan"]


@pytest.mark.parametrize(
    ("comment", "compiler"),
    [
        (b"\0GCC: (Debian 12.2.0-14+deb12u1) 12.2.0\0", "gcc 12"),
        (b"\0GCC: (GNU) 13.1.1\0Ubuntu clang version 18.1.3 (1ubuntu1)\0", "clang 18"),
        (b"\0stripped\0", None),
    ],
)
def test_a_library_tells_its_compiler(comment, compiler, tmp_path):
    library = tmp_path / cpp.LIBRARY
    library.write_bytes(comment)
    found = built_with(library)
    assert found is None if compiler is None else found.startswith(f"{compiler} ")
