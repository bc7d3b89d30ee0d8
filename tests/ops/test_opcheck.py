"""PyTorch's own checks of every registered operation: schema, autograd, fake tensors, dynamic shapes."""

import pytest
import torch
from torch.library import opcheck

from cpp_kernels import IMPLS

# the checks look for gradients of what they have computed themselves
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
B, L, E, N, R = 2, 7, 6, 4, 2
POSITIONS = torch.arange(L).expand(B, -1)
KEPT, SOURCE = POSITIONS[:, R:].contiguous(), POSITIONS[:, :R].contiguous()
TARGET, FIXED = torch.zeros(B, R, dtype=torch.int64), torch.full((B, 1), 3)


def tokens(width=E):
    return torch.randn(B, L, width)


def walk():
    return [tokens(), tokens(), -torch.rand(E, N), tokens(N), tokens(N), torch.randn(E), torch.randn(E)]


def scan():
    *operands, skip, bias = walk()
    return [*operands, skip, tokens(), bias, True, False]


def side():
    return [
        torch.randn(E, 1, 3),
        torch.randn(E),
        -torch.rand(E, N),
        *torch.randn(2, E),
        *weights((R + 2 * N, E), (E, R)),
    ]


def weights(*shapes):
    return [torch.randn(shape) for shape in shapes]


def block():
    return [torch.randn(E), *weights((2 * E, E), (E, E)), *side(), *side(), 1e-5, 0.5]


def kept():
    return [tokens(), *weights((2, B, L, 2, 16), (2, B, L, R)), tokens(), tokens(2 * E), tokens()]


def plan():
    return [KEPT, SOURCE, TARGET, torch.rand(B, R)]


OPERANDS = {
    "selective_scan": scan,
    "selective_scan_backward": lambda: [tokens(), *scan()],
    "bidirectional_scan": lambda: [*scan()[:8], *walk()],
    "bidirectional_scan_backward": lambda: [tokens(), *scan()[:8], *walk()],
    "causal_conv": lambda: [tokens(), torch.randn(E, 1, 3), torch.randn(E), True, True],
    "causal_conv_backward": lambda: [tokens(), tokens(), torch.randn(E, 1, 3), torch.randn(E), True, True],
    "add_norm": lambda: [tokens(), tokens(), torch.randn(E), 1e-5, torch.float32],
    "add_norm_backward": lambda: [tokens(), tokens(), tokens(), torch.randn(E), 1e-5],
    "mamba_block": lambda: [tokens(), tokens(), *block()],
    "mamba_block_backward": lambda: [tokens(), tokens(), *kept(), *block()],
    "merge_rows": lambda: [tokens(), *plan()],
    "merge_rows_backward": lambda: [torch.randn(B, L - R, E), *plan()],
    "find_nearest": lambda: [tokens(), tokens(), "cosine", 1, 3],
    "find_nearest_seen": lambda: [tokens(), tokens(), POSITIONS * 0, POSITIONS + 1, "l1", 1],
    "closest_pairs": lambda: [tokens(), FIXED, R, "cosine", 1, L],
    "lay_out": lambda: [SOURCE, None, L],
}
# how many operands, from the first, have gradients; those of gradients take long to trace, see test_transforms
DIFFERENTIABLE = {
    "selective_scan": 8,
    "bidirectional_scan": 15,
    "causal_conv": 3,
    "add_norm": 3,
    "mamba_block": 19,
    "merge_rows": 1,
}


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("name", OPERANDS)
def test_what_pytorch_asks_of_an_operation(name, impl):
    operands = OPERANDS[name]()
    for x in operands[: DIFFERENTIABLE.get(name, 0)]:
        x.requires_grad_()
    found = opcheck(getattr(torch.ops.rmeeto, name).default, (*operands, impl))
    assert set(found.values()) == {"SUCCESS"}


def test_every_operation_is_checked():
    ours = {schema.name for schema in torch._C._jit_get_all_schemas() if schema.name.startswith("rmeeto::")}
    assert {f"rmeeto::{name}" for name in OPERANDS} == ours
