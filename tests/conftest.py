"""Shared settings: two threads, no network, deterministic draws, shapes checked as they are annotated."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import signal

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as a shell leaves it to programs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest
import torch

from shape_checks import install

OPS = ("scan", "conv", "norm", "bidirectional", "nearest", "pairs", "layout", "merge", "merging", "block")
install(
    {
        *(f"rmeeto.ops.{name}" for name in OPS),
        "rmeeto.reduction.tokens",
        "rmeeto.reduction.plan",
        "rmeeto.models.vim.backbone",
        "rmeeto.models.vit.transformer",
    }
)


def pytest_configure(config):
    # Without a compiler the same tests run on the plain loop; tests/ops checks the warning itself. As a line of
    # pyproject.toml it would import rmeeto before the checks are installed.
    config.addinivalue_line("filterwarnings", "ignore::rmeeto.ops.select.FallbackWarning")


@pytest.fixture(autouse=True)
def _same_draws_in_every_test():
    torch.manual_seed(0)
