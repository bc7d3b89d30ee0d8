"""The selective scan: the package's kernels against plain PyTorch and other packages.

    python benchmarks/scan.py [--device cpu] [--shape 8,197,768,16] [--rounds 15] [--freed-memory kept]

Forward, and forward + backward as a training step has them, with softplus, bias, skip and gate, float32. Plain
PyTorch appears twice: the package's reference, and the textbook loop, whose backward is left out unless `--patient`
asks for it, because it takes many seconds. mambapy's parallel scan (`pip install mambapy`) and, on a GPU, mamba-ssm's
CUDA kernel take part where they are installed. No speed is reported if the tests of the scan are red, or the kernels'
results wrong.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial

import torch
from torch import Tensor

from _peers import TEXTBOOK, Scan, find_peers, missing_peers
from _timing import KEPT, RETURNED, compare, print_table, refuse_if_red, save
from rmeeto.ops import ScanOperands, selective_scan
from rmeeto.ops.impl import reference
from rmeeto.runtime.devices import backend

KERNELS = "kernels"


def operands(batch: int, length: int, channels: int, states: int, device: torch.device) -> list[Tensor]:
    """Draw u, delta, A, B, C, skip, gate, delta_bias of the sizes that they have in a model."""
    torch.manual_seed(0)
    u, delta, gate = torch.randn(3, batch, length, channels).unbind()
    B, C = torch.randn(2, batch, length, states).unbind()
    A = -torch.arange(1.0, states + 1).repeat(channels, 1)
    drawn = [u, delta, A, B, C, torch.ones(channels), gate, torch.randn(channels) - 4]
    return [x.to(device) for x in drawn]


def run_kernels(u, delta, A, B, C, skip, gate, bias):
    return selective_scan(u, delta, A, B, C, skip=skip, gate=gate, delta_bias=bias, delta_softplus=True, impl="auto")


def run_reference(*inputs):
    return reference.selective_scan(ScanOperands(*inputs), True, False)


def find_candidates(device: torch.device) -> dict[str, Scan]:
    return {KERNELS: run_kernels, "reference": run_reference, **find_peers(device)}


def forward(run, inputs):
    with torch.no_grad():
        return run(*inputs)


def forward_and_backward(run, inputs, grad):
    leaves = [x.detach().requires_grad_() for x in inputs]
    out = run(*leaves)
    return out, torch.autograd.grad(out, leaves, grad)


def worst_error(run, shape, device) -> float:
    """Return the largest error of output and gradients against float64, relative to each one's largest value."""
    inputs, grad = operands(*shape, device), torch.randn(shape[:3]).to(device)
    out, gradients = forward_and_backward(run, inputs, grad)
    true_out, truths = forward_and_backward(run_reference, [x.double() for x in inputs], grad.double())
    pairs = zip((out, *gradients), (true_out, *truths), strict=True)
    return max(((a - t).abs().max() / t.abs().max()).item() for a, t in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--shape", default="8,197,768,16", help="batch,tokens,channels,states")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--freed-memory", choices=[KEPT, RETURNED], default=KEPT, help="kept, as the command line does")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--patient", action="store_true", help=f"also time the backward of the {TEXTBOOK}")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device, shape = torch.device(options.device), tuple(map(int, options.shape.split(",")))
    kernels = backend("auto", device)
    if kernels == "reference":
        sys.exit("nothing to measure: there are no kernels for this device (`rmeeto doctor` says why)")
    refuse_if_red(["triton" if kernels == "triton" else "scan"])

    candidates, missing = find_candidates(device), missing_peers(device)
    errors = {name: worst_error(run, (2, 63, 40, shape[3]), device) for name, run in candidates.items()}
    if errors[KERNELS] > 2e-5:
        sys.exit(f"the kernels are wrong (largest error {errors[KERNELS]:.1e}): no speed is reported")

    inputs, grad = operands(*shape, device), torch.randn(shape[:3]).to(device)
    forwards = {name: partial(forward, run, inputs) for name, run in candidates.items()}
    both = {name: partial(forward_and_backward, run, inputs, grad) for name, run in candidates.items()}
    if not options.patient:
        del both[TEXTBOOK]
    timed = partial(compare, rounds=options.rounds, device=device, freed_memory=options.freed_memory)
    times = {
        "forward": timed(forwards),
        "forward + backward": timed(both),
    }
    for title, table in times.items():
        print_table(f"{title}, (b, l, e, n) = {shape}, {options.threads} threads", table, against=KERNELS)
    content = {
        "shape": shape,
        "dtype": "float32",
        "freed_memory": options.freed_memory,
        "kernels": kernels,
        "missing_peers": missing,
        "largest_errors": errors,
        "times": times,
    }
    save("scan" if options.freed_memory == KEPT else f"scan_memory_{RETURNED}", content, device)


if __name__ == "__main__":
    main()
