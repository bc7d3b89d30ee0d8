"""The short causal convolution on the processor: the C++ kernels against PyTorch's own depthwise convolution.

    python benchmarks/conv.py [--shape 8,197,768,4] [--threads 2] [--rounds 40]

Forward, and forward + backward, float32, with bias and SiLU. The peer is what models use elsewhere: transpose,
`torch.nn.functional.conv1d` with padding, cut, SiLU, transpose back. No speed is reported if the tests of the
convolution are red, or results wrong.
"""

from __future__ import annotations

import argparse
import sys

import torch
from torch.nn import functional

from _timing import compare, print_table, refuse_if_red, save
from rmeeto.ops import causal_conv
from rmeeto.ops.impl import cpp, reference

KERNELS = "C++"


def run_kernels(x, weight, bias):
    return causal_conv(x, weight, bias, impl="cpp")


def run_reference(x, weight, bias):
    return reference.causal_conv(x, weight, bias, True, False)


def run_conv1d(x, weight, bias):
    padding = weight.shape[-1] - 1
    y = functional.conv1d(x.mT, weight, bias, padding=padding, groups=x.shape[-1])[..., : x.shape[1]]
    return functional.silu(y).mT.contiguous()


CANDIDATES = {KERNELS: run_kernels, "reference": run_reference, "torch conv1d": run_conv1d}


def operands(batch, length, channels, width):
    torch.manual_seed(0)
    return torch.randn(batch, length, channels), torch.randn(channels, 1, width), torch.randn(channels)


def forward(run, inputs):
    with torch.no_grad():
        return run(*inputs)


def forward_and_backward(run, inputs, grad):
    leaves = [x.detach().requires_grad_() for x in inputs]
    out = run(*leaves)
    return out, torch.autograd.grad(out, leaves, grad)


def worst_error(run, shape) -> float:
    """Return the largest error of output and gradients against float64, relative to each one's largest value."""
    inputs, grad = operands(*shape), torch.randn(shape[:3])
    out, gradients = forward_and_backward(run, inputs, grad)
    true_out, truths = forward_and_backward(run_reference, [x.double() for x in inputs], grad.double())
    pairs = zip((out, *gradients), (true_out, *truths), strict=True)
    return max(((a - t).abs().max() / t.abs().max()).item() for a, t in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description="The short causal convolution on the processor.")
    parser.add_argument("--shape", default="8,197,768,4", help="batch,tokens,channels,taps")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if reason := cpp.absence():
        sys.exit(f"nothing to measure: {reason}")
    refuse_if_red(["conv"])

    shape = tuple(map(int, options.shape.split(",")))
    errors = {name: worst_error(run, (2, 63, 40, shape[3])) for name, run in CANDIDATES.items()}
    if errors[KERNELS] > 1e-5:
        sys.exit(f"the kernels are wrong (largest error {errors[KERNELS]:.1e}): no speed is reported")

    inputs, grad = operands(*shape), torch.randn(shape[:3])
    forwards = {name: lambda run=run: forward(run, inputs) for name, run in CANDIDATES.items()}
    both = {name: lambda run=run: forward_and_backward(run, inputs, grad) for name, run in CANDIDATES.items()}
    times = {
        "forward": compare(forwards, rounds=options.rounds),
        "forward + backward": compare(both, rounds=options.rounds),
    }
    for title, table in times.items():
        print_table(f"{title}, (b, l, e, k) = {shape}, {options.threads} threads", table, against=KERNELS)
    save("conv", {"shape": shape, "dtype": "float32", "largest_errors": errors, "times": times})


if __name__ == "__main__":
    main()
