"""What the source distribution holds: enough to run the tests from it."""

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(not (ROOT / "setup.py").is_file(), reason="not in a tree that can be built")
def test_the_source_distribution_holds_the_tests_and_the_kernels(tmp_path):
    command = [sys.executable, "setup.py", "-q", "egg_info", "-e", tmp_path, "sdist", "-d", tmp_path]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    expected = {str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("*.py")}
    expected |= {str(path.relative_to(ROOT)) for path in (ROOT / "src/rmeeto/ops/csrc").rglob("*") if path.is_file()}
    expected |= {
        "src/rmeeto/ops/csrc/scan.h",
        "src/rmeeto/ops/csrc/native/CMakeLists.txt",
        "benchmarks/all.py",
        "docs/methods.md",
        "LOG.md",
        "LICENSE",
    }
    assert expected <= names
