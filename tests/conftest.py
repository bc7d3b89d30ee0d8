"""Shared settings: two threads, no network, deterministic draws."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch


@pytest.fixture(autouse=True)
def _same_draws_in_every_test():
    torch.manual_seed(0)
