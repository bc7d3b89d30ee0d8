import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rmeeto.ops import select
from rmeeto.ops.impl import cpp
from rmeeto.ops.impl.cpp import loading

ROOT = Path(__file__).parents[2]
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


def test_a_library_of_other_sources_is_refused(monkeypatch):
    monkeypatch.setattr(loading, "INTERFACE_VERSION", -1)
    if cpp.library_path().exists():
        assert "install rmeeto again" in cpp.absence.__wrapped__()


def test_a_file_that_is_no_library_is_refused(monkeypatch, tmp_path):
    broken = tmp_path / cpp.LIBRARY
    monkeypatch.setattr(loading, "library_path", lambda: broken)
    assert "not built" in cpp.absence.__wrapped__()
    broken.write_text("this is no library")
    assert "cannot be loaded" in cpp.absence.__wrapped__()


def build(folder: Path, **environment: str) -> subprocess.CompletedProcess:
    """Run the build in a copy of what it needs, as pip would."""
    shutil.copytree(ROOT / "src/rmeeto/ops/csrc", folder / "src/rmeeto/ops/csrc")
    for path in ("setup.py", "src/rmeeto/__init__.py", "src/rmeeto/ops/__init__.py"):
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
