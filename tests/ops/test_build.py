import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rmeeto.ops import select
from rmeeto.ops.impl import cpp
from rmeeto.ops.impl.cpp import loading
from rmeeto.ops.impl.cpp.sources import fingerprint

ROOT = Path(__file__).parents[2]
RUN_BY_PATH = ("src/rmeeto/ops/impl/cpp/sources.py", "src/rmeeto/ops/without_kernels.py")  # by setup.py
COMPILERS = ("c++", "g++", "clang++")


@pytest.mark.skipif("CXX" in os.environ, reason="the compiler was chosen by hand: /bin/false, perhaps")
@pytest.mark.skipif(not any(map(shutil.which, COMPILERS)), reason="no C++ compiler")
def test_a_machine_with_a_compiler_has_the_kernels():
    assert cpp.absence() is None
    assert select.availability()["cpp"] == "ready"
    assert cpp.library_path().is_file()
    assert cpp.instruction_set() in ("avx512_bf16", "avx512", "avx2", "portable")


@pytest.mark.skipif(cpp.absence() is not None, reason=f"no C++ kernels: {cpp.absence()}")
def test_an_instruction_set_that_does_not_exist_is_refused():
    before = cpp.instruction_set()
    assert not cpp.use_instruction_set("abacus")
    assert cpp.instruction_set() == before


@pytest.fixture
def sources(monkeypatch, tmp_path):
    """A copy of the C++ sources, which the library's fingerprint is compared with."""
    copied = shutil.copytree(loading.SOURCES, tmp_path / "csrc")
    monkeypatch.setattr(loading, "SOURCES", copied)
    return copied


def test_a_library_of_these_sources_is_taken(sources):
    if cpp.library_path().exists():
        assert cpp.absence.__wrapped__() is None


@pytest.mark.parametrize("change", ["edited", "renamed", "added", "removed"])
def test_a_library_of_other_sources_is_refused(sources, change):
    header = sources / "scan.h"
    match change:
        case "edited":
            header.write_text(header.read_text() + "//")
        case "renamed":
            header.rename(sources / "walk.h")
        case "added":
            (sources / "walk.h").touch()
        case "removed":
            header.unlink()
    if cpp.library_path().exists():
        assert "python setup.py build_kernels --inplace" in cpp.absence.__wrapped__()


def test_what_is_no_source_does_not_count(sources):
    before = fingerprint(sources)
    (sources / "scan.h~").write_text("an editor's copy")
    os.utime(sources / "scan.h", (0, 0))
    assert fingerprint(sources) == before


def test_a_library_without_sources_beside_it_is_taken(sources):
    shutil.rmtree(sources)
    if cpp.library_path().exists():
        assert cpp.absence.__wrapped__() is None


@pytest.mark.skipif(not any(map(shutil.which, COMPILERS)), reason="no C++ compiler")
def test_a_library_without_a_fingerprint_is_refused(monkeypatch, tmp_path):
    compiler = next(filter(None, map(shutil.which, COMPILERS)))
    library = tmp_path / cpp.LIBRARY
    subprocess.run([compiler, "-shared", "-x", "c++", os.devnull, "-o", library], check=True)
    monkeypatch.setattr(loading, "library_path", lambda: library)
    assert "built from other sources" in cpp.absence.__wrapped__()


def test_a_file_that_is_no_library_is_refused(monkeypatch, tmp_path):
    broken = tmp_path / cpp.LIBRARY
    monkeypatch.setattr(loading, "library_path", lambda: broken)
    assert "not built" in cpp.absence.__wrapped__()
    broken.write_text("this is no library")
    assert "cannot be loaded" in cpp.absence.__wrapped__()


def build(folder: Path, **environment: str) -> subprocess.CompletedProcess:
    """Run the build in a copy of what it needs, as pip would."""
    shutil.copytree(ROOT / "src/rmeeto/ops/csrc", folder / "src/rmeeto/ops/csrc")
    packages = ("", "ops/", "ops/impl/", "ops/impl/cpp/")
    for path in ("setup.py", *RUN_BY_PATH, *(f"src/rmeeto/{package}__init__.py" for package in packages)):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, folder / path)
    (folder / "pyproject.toml").write_text('[project]\nname = "rmeeto"\nversion = "0"\n')
    command = [sys.executable, "setup.py", "-q", "build_kernels"]
    return subprocess.run(
        command, cwd=folder, env=os.environ | environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_the_build_succeeds_without_a_compiler_and_says_so(tmp_path):
    pytest.importorskip("setuptools", minversion="77")
    done = build(tmp_path, CC="/bin/false", CXX="/bin/false")
    assert done.returncode == 0, done.stderr
    assert "KERNELS WERE NOT BUILT" in done.stderr
    assert "install a C++ compiler" in done.stderr
    assert not list(tmp_path.rglob(cpp.LIBRARY))
