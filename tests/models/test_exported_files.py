"""Files of exported models: what a fresh process must import to run them, and what they give there."""

import os
import subprocess
import sys

import pytest
import torch

from rmeeto import TokenMerge
from small_models import model_of

RUN = """
import sys, torch
{imports}
given, model, kept = sys.argv[1:]
images = torch.load(given)
run = {load}
with torch.no_grad():
    torch.save(run(images), kept)
"""


def run_in_a_fresh_process(folder, model_file, images, imports, load):
    torch.save(images, folder / "images.pt")
    code = RUN.format(imports=imports, load=load)
    files = [folder / "images.pt", model_file, folder / "logits.pt"]
    done = subprocess.run([sys.executable, "-c", code, *map(str, files)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(folder / "logits.pt")


@pytest.fixture(scope="module")
def model():
    return model_of(img_size=16, depth=2, reduction=TokenMerge(r=3, blocks="all"))


@pytest.fixture(scope="module")
def program(model):
    batch = torch.export.Dim("batch", min=1, max=64)
    images = torch.randn(2, *model.config.input_size)
    return torch.export.export(model, (images,), dynamic_shapes=({0: batch},), strict=False)


@pytest.fixture
def images(model):
    return torch.randn(5, *model.config.input_size)


def test_an_exported_program_needs_our_operations_and_nothing_else_of_us(tmp_path, model, program, images):
    torch.export.save(program, tmp_path / "model.pt2")
    logits = run_in_a_fresh_process(
        tmp_path,
        tmp_path / "model.pt2",
        images,
        imports="import rmeeto.ops",
        load="torch.export.load(model).module(); assert 'rmeeto.models' not in sys.modules",
    )
    with torch.no_grad():
        torch.testing.assert_close(logits, model(images))


@pytest.mark.skipif(
    "RMEETO_SLOW_TESTS" not in os.environ, reason="compiles for a minute; .ci/run sets RMEETO_SLOW_TESTS=1"
)
def test_a_package_compiled_ahead_of_time(tmp_path, model, program, images):
    package = torch._inductor.aoti_compile_and_package(
        program,
        package_path=str(tmp_path / "model.pt2"),
    )
    logits = run_in_a_fresh_process(
        tmp_path,
        package,
        images,
        imports="import rmeeto.ops",
        load="torch._inductor.aoti_load_package(model)",
    )
    with torch.no_grad():
        torch.testing.assert_close(logits, model(images))
