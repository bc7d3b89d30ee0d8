"""The module that runs models loads without PyTorch, and a copy of its file runs without the rest of rmeeto."""

import shutil
import subprocess
import sys

import numpy as np
import pytest

from cpp_kernels import needs_kernels
from rmeeto import native
from rmeeto.native import binding
from rmeeto.ops.impl import cpp
from small_models import images_of, model_of


def run(code, *arguments, folder=None):
    command = [sys.executable, *(["-I"] if folder else []), "-c", code, *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder).stdout


def test_it_imports_neither_torch_nor_numpy():
    code = "import sys, rmeeto.native; print([name for name in sys.modules if name in ('torch', 'numpy', 'timm')])"
    assert run(code).strip() == "[]"


@needs_kernels
def test_a_copy_of_one_file_is_enough(tmp_path):
    model = model_of()
    path = native.save(model, tmp_path / "tiny.rmeeto")
    shutil.copy(binding.__file__, tmp_path / "rmeeto_native.py")
    shutil.copy(cpp.library_path(), tmp_path / "librmeeto.so")
    images = images_of(model)
    np.save(tmp_path / "images.npy", images.numpy())
    code = """
import sys
sys.path.insert(0, ".")
import numpy, rmeeto_native
with rmeeto_native.load("tiny.rmeeto") as model:
    numpy.save("logits.npy", model(numpy.load("images.npy")))
print([name for name in sys.modules if name in ("torch", "rmeeto")])
"""
    assert run(code, folder=tmp_path).strip() == "[]"
    with native.load(path) as opened:
        assert np.array_equal(np.load(tmp_path / "logits.npy"), opened(images.numpy()))


def test_a_missing_library_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(binding, "LIBRARIES", (tmp_path / "librmeeto.so",))
    with pytest.raises(native.NativeError, match="not built"):
        binding.library.__wrapped__()
    with pytest.raises(native.NativeError, match="cannot be used"):
        native.load("x", library_path=tmp_path / "librmeeto.so")
