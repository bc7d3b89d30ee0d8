"""The selective scan of other packages, forward in time, to compare the kernels with.

Each takes (u, delta, A, B, C, skip, gate, delta_bias) of `rmeeto.ops.selective_scan` and applies softplus to delta.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

import torch
from torch import Tensor
from torch.nn import functional

Scan = Callable[..., Tensor]

TEXTBOOK = "textbook loop"
MAMBAPY = "mambapy parallel scan"
MAMBA_SSM = "mamba-ssm CUDA kernel"


def textbook_loop(u, delta, A, B, C, skip, gate, bias):
    """The recurrence as it is usually written, and as in the authors' reference function.

    It lays out the decays of all tokens at once and takes slices; autograd answers each slice with a gradient of the
    whole, which makes its backward quadratic in the tokens.
    """
    delta = functional.softplus(delta + bias)
    decay = torch.exp(torch.einsum("ble,en->blen", delta, A))
    drive = torch.einsum("ble,bln,ble->blen", delta, B, u)
    h, outputs = torch.zeros_like(decay[:, 0]), []
    for t in range(u.shape[1]):
        h = decay[:, t] * h + drive[:, t]
        outputs.append(torch.einsum("ben,bn->be", h, C[:, t]))
    return (torch.stack(outputs, dim=1) + u * skip) * functional.silu(gate)


def mambapy_scan(u, delta, A, B, C, skip, gate, bias):
    """A parallel scan over time in plain PyTorch, with a backward of its own (`pip install mambapy`)."""
    from mambapy.pscan import pscan

    delta = functional.softplus(delta + bias)
    decay = torch.exp(delta.unsqueeze(-1) * A)
    drive = (delta * u).unsqueeze(-1) * B.unsqueeze(2)
    y = (pscan(decay, drive) @ C.unsqueeze(-1)).squeeze(-1)
    return (y + u * skip) * functional.silu(gate)


def mamba_ssm_scan(u, delta, A, B, C, skip, gate, bias):
    """The CUDA kernel of the Mamba authors, transposes to its layout included, as a channels-last model needs them."""
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

    return selective_scan_fn(u.mT, delta.mT, A, B.mT, C.mT, D=skip, z=gate.mT, delta_bias=bias, delta_softplus=True).mT


def optional_peers(device: torch.device) -> dict[str, tuple[str, Scan]]:
    """Peers that come in a package, and its name."""
    peers = {MAMBAPY: ("mambapy", mambapy_scan)}
    return peers | {MAMBA_SSM: ("mamba_ssm", mamba_ssm_scan)} if device.type == "cuda" else peers


def find_peers(device: torch.device) -> dict[str, Scan]:
    """The peers that can run on a device here."""
    found = {name: scan for name, (package, scan) in optional_peers(device).items() if find_spec(package)}
    return {TEXTBOOK: textbook_loop, **found}


def missing_peers(device: torch.device) -> list[str]:
    """The peers for this device whose package is not installed; prints them."""
    missing = {name: package for name, (package, _) in optional_peers(device).items() if not find_spec(package)}
    for name, package in missing.items():
        print(f"left out: {name} ({package} is not installed)")
    return list(missing)
