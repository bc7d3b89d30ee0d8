"""Programs of torch.export: one that calls rmeeto's kernels, one that needs PyTorch alone."""

import json

import pytest
import torch

import fresh
import rmeeto
from rmeeto.exporting import plain_torch
from rmeeto.exporting.pt2_format import in_plain_torch
from rmeeto.exporting.trace import trace
from rmeeto.ops.impl.reference import find_nearest_seen, selective_scan
from rmeeto.ops.operands import ScanOperands
from tiny_exports import images_of, video, vim

SMALL = {"img_size": 16, "depth": 2}  # a trace of PyTorch's own operations takes its time

RUN = """
import sys, torch
{imports}
program, given, kept = sys.argv[1:]
with torch.no_grad():
    torch.save(torch.export.load(program).module()(torch.load(given)), kept)
{check}
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    model = vim("merge:r=3,blocks=all", **SMALL)
    place = tmp_path_factory.mktemp("export") / "out"
    rmeeto.export(model, place, format="pt2", count=1, maps=True)
    return model, place


@pytest.mark.parametrize(
    ("file", "imports", "check"),
    [
        ("model.pt2", "import rmeeto.ops", ""),
        ("plain.pt2", "", "assert not any(name.startswith('rmeeto') for name in sys.modules)"),
    ],
)
def test_a_fresh_process_runs_it(exported, tmp_path, file, imports, check):
    model, place = exported
    images = images_of(model, 1)
    torch.save(images, tmp_path / "images.pt")
    code = RUN.format(imports=imports, check=check)
    fresh.run(code, place / file, tmp_path / "images.pt", tmp_path / "results.pt", quiet=True)
    logits, source_map = torch.load(tmp_path / "results.pt")
    with torch.inference_mode():
        traced = model.trace(images)
    torch.testing.assert_close(logits, traced.logits, atol=1e-5, rtol=1e-5)
    assert torch.equal(source_map, traced.blocks[-1].group())


def test_both_programs_are_checked(exported):
    _, place = exported
    rows = json.loads((place / "parity.json").read_text())["rows"]
    assert [row["runtime"] for row in rows] == ["PyTorch with rmeeto", "PyTorch alone"]
    assert all(row["passed"] for row in rows)
    assert (place / "run.py").read_text().count("import numpy") == 1


def test_plain_programs_call_nothing_of_ours():
    model = video("merge:r=1,frames=0,blocks=all", depth=2, patch_size=8, stride=8)
    program = in_plain_torch(trace(model, None).program)
    assert not any("rmeeto" in str(node.target) for node in program.graph.nodes)
    images = images_of(model, 3)
    with torch.no_grad():
        logits, source_map, *_ = program.module()(images)
        traced = model.trace(images)
    torch.testing.assert_close(logits, traced.logits, atol=1e-5, rtol=1e-5)
    assert torch.equal(source_map, traced.blocks[-1].group())


@pytest.mark.parametrize("length", [1, 2, 3, 7, 16, 63])
@pytest.mark.parametrize("reverse", [False, True])
def test_the_walk_in_stretches_is_the_scan(length, reverse):
    u, delta = torch.randn(2, length, 6), torch.rand(2, length, 6) * 2
    A, B, C = -torch.rand(6, 3) * 16, torch.randn(2, length, 3), torch.randn(2, length, 3)
    exact = selective_scan(ScanOperands(*(x.double() for x in (u, delta, A, B, C))), False, reverse)
    found = plain_torch.selective_scan(u, delta, A, B, C, None, None, None, False, reverse, "auto")
    torch.testing.assert_close(found.double(), exact, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("distance", ["cosine", "l1", "l2"])
@pytest.mark.parametrize("nth", [1, 3])
def test_the_nearest_of_all_pairs_is_the_nearest(distance, nth):
    a, b = torch.randn(2, 9, 4), torch.randn(2, 8, 4)
    low = torch.randint(-1, 9, (2, 9))
    high = low + torch.randint(0, 5, (2, 9))
    right = find_nearest_seen(a, b, low, high, distance, nth)
    found = plain_torch.find_nearest_seen(a, b, low, high, distance, nth, "auto")
    torch.testing.assert_close(found[0], right[0], atol=1e-5, rtol=1e-5)
    assert torch.equal(found[1], right[1])
