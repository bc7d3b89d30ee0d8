"""The selective scan on the processor: the C++ kernels against plain PyTorch and against mambapy's parallel scan.

    python benchmarks/scan.py [--shape 8,197,768,16] [--threads 2] [--rounds 15]

Forward, and forward + backward as a training step has them, with softplus, bias, skip and gate, float32. Plain
PyTorch appears twice: the package's reference, and the loop as it is usually written down, which lays out the decays
of all tokens at once and takes slices; the latter's backward is left out unless `--patient` asks for it, because
autograd answers each slice with a gradient of the whole, which takes many seconds. mambapy (`pip install mambapy`) is
left out where it is not installed. No speed is reported if the kernels' results are wrong.
"""

from __future__ import annotations

import argparse
import sys

import torch
from torch import Tensor
from torch.nn import functional

from _timing import compare, print_table, save
from rmeeto.ops import selective_scan
from rmeeto.ops.impl import cpp, reference

KERNELS = "C++"
SLOW_BACKWARD = "textbook loop"


def operands(batch: int, length: int, channels: int, states: int) -> list[Tensor]:
    """Draw u, delta, A, B, C, skip, gate, delta_bias of the sizes that they have in a model."""
    torch.manual_seed(0)
    u, delta, gate = torch.randn(3, batch, length, channels).unbind()
    B, C = torch.randn(2, batch, length, states).unbind()
    A = -torch.arange(1.0, states + 1).repeat(channels, 1)
    return [u, delta, A, B, C, torch.ones(channels), gate, torch.randn(channels) - 4]


def run_kernels(u, delta, A, B, C, skip, gate, bias):
    return selective_scan(u, delta, A, B, C, skip=skip, gate=gate, delta_bias=bias, delta_softplus=True, impl="cpp")


def run_reference(*inputs):
    return reference.selective_scan(*inputs, True, False)


def run_textbook_loop(u, delta, A, B, C, skip, gate, bias):
    delta = functional.softplus(delta + bias)
    decay = torch.exp(torch.einsum("ble,en->blen", delta, A))
    drive = torch.einsum("ble,bln,ble->blen", delta, B, u)
    h, outputs = torch.zeros_like(decay[:, 0]), []
    for t in range(u.shape[1]):
        h = decay[:, t] * h + drive[:, t]
        outputs.append(torch.einsum("ben,bn->be", h, C[:, t]))
    return (torch.stack(outputs, dim=1) + u * skip) * functional.silu(gate)


def run_mambapy(u, delta, A, B, C, skip, gate, bias):
    from mambapy.pscan import pscan

    delta = functional.softplus(delta + bias)
    decay = torch.exp(delta.unsqueeze(-1) * A)
    drive = (delta * u).unsqueeze(-1) * B.unsqueeze(2)
    y = (pscan(decay, drive) @ C.unsqueeze(-1)).squeeze(-1)
    return (y + u * skip) * functional.silu(gate)


def find_candidates():
    candidates = {
        KERNELS: run_kernels,
        "reference": run_reference,
        SLOW_BACKWARD: run_textbook_loop,
        "mambapy parallel scan": run_mambapy,
    }
    try:
        import mambapy.pscan  # noqa: F401
    except ImportError:
        del candidates["mambapy parallel scan"]
    return candidates


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
    parser = argparse.ArgumentParser(description="The selective scan on the processor.")
    parser.add_argument("--shape", default="8,197,768,16", help="batch,tokens,channels,states")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--patient", action="store_true", help=f"also time the backward of the {SLOW_BACKWARD}")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if reason := cpp.absence():
        sys.exit(f"nothing to measure: {reason}")

    candidates, shape = find_candidates(), tuple(map(int, options.shape.split(",")))
    errors = {name: worst_error(run, (2, 63, 40, shape[3])) for name, run in candidates.items()}
    if errors[KERNELS] > 2e-5:
        sys.exit(f"the kernels are wrong (largest error {errors[KERNELS]:.1e}): no speed is reported")

    inputs, grad = operands(*shape), torch.randn(shape[:3])
    forwards = {name: lambda run=run: forward(run, inputs) for name, run in candidates.items()}
    both = {name: lambda run=run: forward_and_backward(run, inputs, grad) for name, run in candidates.items()}
    if not options.patient:
        del both[SLOW_BACKWARD]
    times = {
        "forward": compare(forwards, rounds=options.rounds),
        "forward + backward": compare(both, rounds=options.rounds),
    }
    for title, table in times.items():
        print_table(f"{title}, (b, l, e, n) = {shape}, {options.threads} threads", table, against=KERNELS)
    save("scan", {"shape": shape, "largest_errors": errors, "times": times})


if __name__ == "__main__":
    main()
