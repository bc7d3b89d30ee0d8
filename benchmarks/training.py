"""One training step of a Vision Mamba, the package's kernels against the same model with other scans.

    python benchmarks/training.py [--device cpu] [--image 224] [--batch 8] [--patient] [--freed-memory returned]
    python benchmarks/training.py --device cuda --model vim_small --batch 128 --precision bfloat16 --only kernels

A step is forward, cross-entropy, backward and AdamW. Peers are the same model with another scan: mambapy's parallel
scan (`pip install mambapy`) and the plain time loop as it is usually written under autograd. They keep our convolution
and norm, but run layer by layer, with PyTorch's products. The package's reference, in which every operation is plain
PyTorch, runs too. The textbook loop takes minutes for a step; unless `--patient` asks for it, its forward +
backward is timed for a single scan and its step put together:
the kernels' step, with each of its two scans a block exchanged. Memory is what one step adds to the weights:
activations, gradients, AdamW's two moments; each in a process of its own. mambapy's at 224 and batch 8 is about 5 GiB.

Losses: so many steps from equal weights on equal noise; exits with 1 if any step's differs from the kernels' by more
than 1e-4 of it. No speed is reported if the operations' tests are red.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from unittest.mock import patch

import torch
from torch import Tensor, nn

import rmeeto
from _memory import grown_mib
from _peers import TEXTBOOK, Scan, find_peers, missing_peers
from _timing import KEPT, RETURNED, Times, compare, operations_of_a_model, print_table, ratio, refuse_if_red, save
from rmeeto.models.vim import block, mixers
from rmeeto.ops import selective_scan
from rmeeto.runtime.devices import autocast, backend

KERNELS, REFERENCE = "kernels", "reference"
SAME_LOSS = 1e-4
LEARNING_RATE, WEIGHT_DECAY = 1e-3, 0.05


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model", default="vim_tiny")
    parser.add_argument("--reduction", help="such as merge:r=11; none by default")
    parser.add_argument("--image", type=int, default=224, help="pixels along each side")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--losses", type=int, default=20, help="steps to compare the losses of")
    parser.add_argument("--losses-batch", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--freed-memory", choices=[KEPT, RETURNED], default=KEPT, help="kept, as the command line does")
    parser.add_argument("--only", nargs="+", help="leave out all candidates but these")
    parser.add_argument("--patient", action="store_true", help=f"run whole steps of the {TEXTBOOK} too")
    return parser.parse_args()


def find_candidates(options: argparse.Namespace) -> list[str]:
    everybody = [KERNELS, REFERENCE, *find_peers(torch.device(options.device))]
    if unknown := set(options.only or []) - set(everybody):
        sys.exit(f"no candidate here is called {', '.join(sorted(unknown))}; there are: {', '.join(everybody)}")
    return [name for name in everybody if name == KERNELS or not options.only or name in options.only]


# ---- the same model with another scan


def in_model(peer: Scan) -> Scan:
    """A peer with the interface that the mixer calls: both directions, the second backwards."""

    def scan(forward, backward, gate, *, impl):
        del impl  # no peer has a choice
        ahead = peer(*forward[:6], gate, forward.delta_bias)
        u, delta, B, C = (x.flip(1) for x in (backward.u, backward.delta, backward.B, backward.C))
        return ahead + peer(u, delta, backward.A, B, C, backward.skip, gate.flip(1), backward.delta_bias).flip(1)

    return scan


@contextmanager
def scan_of(candidate: str, device: torch.device) -> Iterator[None]:
    """Let models call the candidate's scan; the fused block is switched off, because it contains its own scan."""
    peer = find_peers(device).get(candidate)
    if peer is None:
        yield
        return
    with (
        patch.object(mixers, "bidirectional_scan", in_model(peer)),
        patch.object(block, "why_by_parts", lambda *_: "another scan is compared"),
    ):
        yield


class Training:
    """A model, its optimiser and a batch of noise; the same for every candidate."""

    def __init__(self, candidate: str, options: argparse.Namespace, batch: int, **changes: object) -> None:
        torch.manual_seed(0)
        self.candidate, self.device = candidate, torch.device(options.device)
        self.precision = options.precision
        impl = REFERENCE if candidate == REFERENCE else backend("auto", self.device)
        self.model = rmeeto.create_model(
            options.model,
            img_size=(options.image, options.image),
            reduction=options.reduction,
            impl=impl,
            **changes,
        )
        self.model.to(self.device).train()
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True
        )
        self.images = torch.randn(batch, *self.model.config.input_size).to(self.device)
        self.labels = torch.randint(self.model.config.num_classes, (batch,)).to(self.device)

    def step(self) -> Tensor:
        with scan_of(self.candidate, self.device):
            with autocast(self.device, self.precision):
                loss = nn.functional.cross_entropy(self.model(self.images).float(), self.labels)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
        return loss.detach()

    def losses(self, steps: int) -> list[float]:
        torch.manual_seed(1)  # drop path draws alike
        return [self.step().item() for _ in range(steps)]


def training_step(candidate: str, options: argparse.Namespace) -> Callable[[], object]:
    """The work whose memory is measured in a new process: the first step, after everything else is set up."""
    small = argparse.Namespace(**{**vars(options), "image": 32, "reduction": None})
    Training(candidate, small, batch=1, depth=1, num_classes=10).step()
    return Training(candidate, options, options.batch).step


# ---- one scan alone


def scan_calls(candidates: list[str], options: argparse.Namespace) -> dict[str, Callable[[], object]]:
    """Forward + backward of one scan as a block of this model has it, for each candidate."""
    device = torch.device(options.device)
    config = rmeeto.create_model(options.model, img_size=(options.image, options.image)).config
    batch, length, e, n = options.batch, config.grid[0] * config.grid[1] + 1, config.inner, config.state
    torch.manual_seed(0)
    u, delta, gate = torch.randn(3, batch, length, e).unbind()
    B, C = torch.randn(2, batch, length, n).unbind()
    A = -torch.arange(1.0, n + 1).repeat(e, 1)
    drawn = [u, delta, A, B, C, torch.ones(e), gate, torch.randn(e) - 4]
    leaves = [x.to(device).requires_grad_() for x in drawn]
    grad = torch.randn(batch, length, e).to(device)
    peers = find_peers(device)

    def ours(impl: str) -> Scan:
        def scan(*inputs):
            *positional, skip, gate, bias = inputs
            return selective_scan(
                *positional, skip=skip, gate=gate, delta_bias=bias, delta_softplus=True, reverse=False, impl=impl
            )

        return scan

    scans = peers | {KERNELS: ours(backend("auto", device)), REFERENCE: ours(REFERENCE)}
    return {name: partial(forward_and_backward, scans[name], leaves, grad) for name in candidates}


def forward_and_backward(scan: Scan, leaves: list[Tensor], grad: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(scan(*leaves), leaves, grad)


def put_together(steps: dict[str, Times], scans: dict[str, Times], blocks: int) -> float:
    """The textbook loop's step in ms: the kernels' step with both scans of every block exchanged."""
    return steps[KERNELS]["median_ms"] + 2 * blocks * (scans[TEXTBOOK]["median_ms"] - scans[KERNELS]["median_ms"])


def largest_difference(losses: dict[str, list[float]]) -> float:
    """The largest relative difference of any candidate's loss from the kernels', over all steps."""
    ours = losses[KERNELS]
    return max(
        (abs(a - b) / abs(b) for theirs in losses.values() for a, b in zip(theirs, ours, strict=True)), default=0.0
    )


def main() -> int:
    options = parse_arguments()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    if backend("auto", device) == REFERENCE:
        sys.exit("nothing to measure: there are no kernels for this device (`rmeeto doctor` says why)")
    candidates = find_candidates(options)
    missing = missing_peers(device)
    refuse_if_red(operations_of_a_model(device))
    whole = [name for name in candidates if name != TEXTBOOK or options.patient]

    losses = {name: Training(name, options, options.losses_batch).losses(options.losses) for name in whole}
    difference = largest_difference(losses)
    same = difference <= SAME_LOSS
    print(f"losses of {options.losses} steps: largest difference {difference:.1e} of the loss")
    if not same:
        print(f"THE LOSSES DIFFER by more than {SAME_LOSS:.0e}: no speed is reported", file=sys.stderr)
        return 1

    trainings = {name: Training(name, options, options.batch) for name in whole}
    size = f"{options.model}, {options.image} px, batch {options.batch}, {options.precision}, {options.threads} threads"
    timed = partial(compare, rounds=options.rounds, warm_up=1, device=device, freed_memory=options.freed_memory)
    steps = timed({name: training.step for name, training in trainings.items()})
    blocks = len(trainings[KERNELS].model.layers)
    print_table(f"one training step, {size}", steps, against=KERNELS)
    del trainings
    scans = timed(scan_calls(candidates, options))
    print_table("one scan of it, forward + backward, float32", scans, against=KERNELS)
    composed = put_together(steps, scans, blocks) if TEXTBOOK in candidates and TEXTBOOK not in whole else None
    if composed is not None:
        print(f"  a step with the {TEXTBOOK}, put together from one scan: {composed / 1e3:.1f} s")
    memory = {name: grown_mib(training_step, name, options, device=device, threads=options.threads) for name in whole}
    for name, mib in memory.items():
        print(f"  {name:34}{mib} MiB at the peak of a step")
    content = {
        "model": options.model,
        "reduction": options.reduction,
        "shape": [options.batch, 3, options.image, options.image],
        "dtype": options.precision,
        "freed_memory": options.freed_memory,
        "step": steps,
        "images_per_second": {name: round(1e3 * options.batch / row["median_ms"], 2) for name, row in steps.items()},
        "times_slower": {name: ratio(steps, name, KERNELS) for name in whole},
        "scan_forward_and_backward": scans,
        "textbook_step_put_together_ms": composed,
        "grown_mib": memory,
        "missing_peers": missing,
        "losses": {
            "steps": options.losses,
            "batch": options.losses_batch,
            "compared_with": whole[1:],
            "largest_difference": difference,
        },
    }
    kind = "" if options.freed_memory == KEPT else f"_memory_{RETURNED}"
    save(f"training_{options.model}_{options.batch}x{options.image}_{options.precision}{kind}", content, device)
    return 0


if __name__ == "__main__":
    sys.exit(main())
