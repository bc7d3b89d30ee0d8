"""The released merge function alone: 29 recorded calls, each followed by a second merge of its own result."""

import numpy as np
import pytest
import torch

import goldens
from rmeeto.reduction.protocol import Stack

CASES = goldens.table("merge_function")
TAGS = sorted(tag for tag in CASES if not tag.startswith("vit_"))
INPUTS = goldens.arrays("merge_function")


def bound(options: dict, length: int) -> int:
    """The program halves l - 1 with its class flag on, l without; nothing else hangs on that flag."""
    most = Stack(1, length).capacity(length) if options["class_token"] else length // 2
    return max(0, min(options["num_prune"], most))


def merge(options: dict, metric, size, cls_index):
    r = bound(options, metric.shape[1])
    method = goldens.released({**options, "num_prune": max(0, options["num_prune"])}, last_merge_rule=False)
    plan, place = method.plan(metric, cls_index, r)
    return method, plan, place


@pytest.mark.parametrize("tag", TAGS)
def test_two_merges(tag):
    case, options = CASES[tag], CASES[tag]["options"]
    length = case["L"]
    x, metric, size, residual = (
        torch.from_numpy(INPUTS[name][:, :length]) for name in ("x", "metric", "size_in", "residual")
    )
    size = torch.ones_like(size[..., 0]) if case["size_in"] == "ones" else size[..., 0].float()
    cls_index = torch.full((2,), case["token_position"])
    if bound(options, length) == 0:  # a model never asks for that step; the program hands its input back
        np.testing.assert_array_equal(INPUTS[f"{tag}.x"], x)
        assert case["new_token_position"] == case["token_position"]
        return
    method, plan, place = merge(options, metric, size, cls_index)

    assert place.tolist() == [case["new_token_position"]] * 2
    assert plan.kept.shape[1] == case["tokens"]
    merged = method.combine(plan, x, size)
    sizes = method.combine_sizes(plan, size)
    close = {"rtol": 0, "atol": 2e-6}
    np.testing.assert_allclose(merged, INPUTS[f"{tag}.x"], **close)
    np.testing.assert_allclose(method.combine(plan, residual, size), INPUTS[f"{tag}.residual"], **close)
    if f"{tag}.size" in INPUTS:
        np.testing.assert_allclose(sizes, INPUTS[f"{tag}.size"][..., 0], **close)
    np.testing.assert_array_equal(one_hot(plan, length), INPUTS[f"{tag}.source"])

    if f"{tag}.x2" in INPUTS:
        method, second, place = merge(options, merged, sizes, place)
        assert place.tolist() == [case["second_new_token_position"]] * 2
        np.testing.assert_allclose(method.combine(second, merged, sizes), INPUTS[f"{tag}.x2"], **close)


def one_hot(plan, length: int):
    """The program's source matrix: rows are remaining tokens, columns original ones."""
    place = plan.assignment()
    matrix = torch.zeros(place.shape[0], plan.kept.shape[1], length)
    batch, column = torch.nonzero(place >= 0, as_tuple=True)
    matrix[batch, place[batch, column], column] = 1
    return matrix
