"""The gate: it lets right files through, names the block where a wrong one first differs, and knows ties."""

import json
import math

import numpy as np
import pytest
import torch

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import rmeeto
from rmeeto.exporting import onnx_format
from rmeeto.exporting.gate import expect, first_difference
from rmeeto.exporting.inputs import gate_inputs
from rmeeto.exporting.lowering import match, scan
from rmeeto.exporting.parity import ParityError
from rmeeto.exporting.runners import Answer, onnx_runtime
from rmeeto.reduction import Plan
from tiny_exports import video, vim


@pytest.fixture(autouse=True)
def _one_runtime(monkeypatch):
    """ONNX Runtime alone: the planted bugs are in the file, whatever reads it."""
    monkeypatch.setattr(onnx_format, "onnx_runners", lambda *given: [onnx_runtime(*given)])


def refused(tmp_path, model):
    with pytest.raises(ParityError) as caught:
        rmeeto.export(model, tmp_path / "out", count=2)
    stored = json.loads((tmp_path / "out/parity.json").read_text())
    assert stored["passed"] is False
    assert (tmp_path / "out/model.onnx").exists(), "a failed export stays for whom it puzzles"
    return caught.value.parity.rows[0], str(caught.value)


def test_a_right_file_passes(tmp_path):
    (row,) = rmeeto.export(vim("merge:r=3"), tmp_path / "out", count=3).parity.rows
    assert row.plans_equal >= row.inputs - 1
    assert row.worst_logit < 1e-5
    assert json.loads((tmp_path / "out/parity.json").read_text())["passed"] is True


def test_a_flipped_direction_is_caught(tmp_path, monkeypatch):
    right = scan.scan

    def flipped(graph, walks, shape, *, softplus):
        return right(graph, [(operands, False) for operands, _ in walks], shape, softplus=softplus)

    monkeypatch.setattr(scan, "scan", flipped)
    row, text = refused(tmp_path, vim("merge:r=12,blocks=all"))
    assert row.plans_equal < row.inputs
    assert "is the first whose plan differs" in text


def test_a_flipped_direction_is_caught_in_a_model_without_a_reduction(tmp_path, monkeypatch):
    right = scan.scan
    monkeypatch.setattr(
        scan, "scan", lambda graph, walks, shape, **how: right(graph, [(w, False) for w, _ in walks], shape, **how)
    )
    row, text = refused(tmp_path, vim())
    assert row.plans_equal == row.inputs
    assert "logits differ" in text


def test_a_partner_one_place_off_is_caught(tmp_path, monkeypatch):
    right = match.nearest

    def shifted(graph, *given, columns, **how):
        best, index = right(graph, *given, columns=columns, **how)
        last = np.array(columns - 1)
        return best, graph.node("Min", graph.node("Add", index, np.array(1)), last)

    monkeypatch.setattr(match, "nearest", shifted)
    row, text = refused(tmp_path, vim("merge:r=3"))
    assert row.plans_equal == 0
    assert "block 2 is the first whose plan differs" in text
    assert all(difference.margin > row.tie for difference in row.differences)


def test_float16_weights_are_caught(tmp_path, monkeypatch):
    from rmeeto.exporting.lowering import graph

    right = graph.as_array

    def halved(operand):
        array = right(operand)
        return array.astype(np.float16).astype(np.float32) if array.dtype == np.float32 and array.size > 64 else array

    monkeypatch.setattr(graph, "as_array", halved)
    row, _ = refused(tmp_path, vim("merge:r=3"))
    assert not row.passed


@pytest.fixture(scope="module")
def expected():
    model = vim("merge:r=3")
    return expect(model, gate_inputs(model, count=1))


def answer_with(expected, block, place):
    one = expected.truths[0]
    places = {**one.places, block: place}
    return one, Answer(one.logits[None], {block: place[None] for block, place in places.items()})


def test_equal_plans_do_not_differ(expected):
    one, answer = answer_with(expected, 2, expected.truths[0].places[2])
    assert first_difference(answer, one, 0) is None


def test_a_swap_of_two_candidates_costs_what_their_similarities_differ_by(expected):
    choices = expected.truths[0].choices[2]
    order = choices.value[0].argsort(descending=True)
    last, next_one = order[choices.r - 1], order[choices.r]
    chosen = torch.stack([*order[: choices.r - 1], next_one])
    source = choices.candidates[0][chosen]
    target = choices.targets[0][choices.similarity[0][chosen].argmax(1)]
    place = Plan.joining(source[None], target[None], choices.tokens.length).assignment().numpy()[0]
    one, answer = answer_with(expected, 2, place)
    block, margin = first_difference(answer, one, 0)
    scale = choices.similarity[0].abs().max()
    assert block == 2
    assert margin == pytest.approx(float((choices.value[0][last] - choices.value[0][next_one]) / scale), rel=1e-6)


def test_what_is_no_plan_is_never_a_tie(expected):
    right = expected.truths[0].places[2]
    one, answer = answer_with(expected, 2, right[::-1].copy())
    assert first_difference(answer, one, 0) == (2, math.inf)


def test_inputs_of_a_clip_are_clips():
    model = video()
    inputs = gate_inputs(model)
    assert inputs.values.shape[1:] == model.config.input_size
    assert {"flat", "half flat", "random 0"} <= set(inputs.names)
    assert torch.equal(inputs.values[-1][..., -1], torch.full_like(inputs.values[-1][..., -1], 0.5))
