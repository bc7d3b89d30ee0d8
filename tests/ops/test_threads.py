"""Threads that share a kernel's work: every item is done once, even if threads stall, fork or end."""

import ctypes
import re
import subprocess
import sys
import time
from threading import Thread

import pytest
import torch

from blocks import EPS, parameters_of
from cpp_kernels import needs_kernels
from instruction_counts import INTERFACE, STORED, driver_compiler
from rmeeto.ops.impl import cpp
from rmeeto.ops.impl.cpp import loading
from rmeeto.ops.packed.block import PackedBlock

DRIVER = STORED.with_name("threads.cpp")
SCENARIOS = re.findall(r'\{"(\w+)", \w+\}', DRIVER.read_text())


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    """The scenarios of threads.cpp, compiled; for the sanitizer, by hand: add -g -fsanitize=thread."""
    if sys.platform != "linux":
        pytest.skip("the driver is written for Linux")
    if driver_compiler() is None:
        pytest.skip("no C++ compiler for the driver")
    program = tmp_path_factory.mktemp("threads") / "threads"
    sources = [DRIVER, *(INTERFACE / f"{name}.cpp" for name in ("parallel", "helpers", "memory"))]
    command = [*driver_compiler(), "-std=c++17", "-O1", "-pthread", f"-I{INTERFACE}", *sources, "-o", program]
    subprocess.run([str(word) for word in command], check=True, timeout=120)
    return program


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_item_is_done_once(driver, scenario):
    done = subprocess.run([driver, scenario], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_driver_fails_when_a_scenario_does(driver):
    assert subprocess.run([driver, "no such scenario"], check=False, timeout=60).returncode == 2


# ---- which threads


@pytest.fixture
def openmp():
    """``openmp(function or None)`` replaces PyTorch's OpenMP runtime, as far as the kernels see."""
    library = cpp.library()

    def use(parallel):
        library.rmeeto_use_openmp(ctypes.cast(parallel, ctypes.c_void_p) if parallel else None)

    before = torch.get_num_threads()
    yield use
    torch.set_num_threads(before)
    loading.share_threads(library)


ENTRY = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
PARALLEL = ctypes.CFUNCTYPE(None, ENTRY, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)


class Team:
    """An OpenMP runtime of one more thread than the caller, which the system lets in late."""

    def __init__(self):
        self.calls, self.late_seconds, self.parallel = 0, 0.0, PARALLEL(self.run)

    def run(self, entry, data, threads, flags):
        self.calls += 1

        def begin():
            time.sleep(self.late_seconds)
            entry(data)

        other = Thread(target=begin)
        other.start()
        entry(data)
        other.join()


def normalise():
    x, weight = torch.ones(64, 32, 64), torch.ones(64)
    return cpp.add_norm(x, None, weight, 1e-5, torch.float32)


def normalise_until(team, calls):
    """Until the team has been called so often."""
    end = time.monotonic() + 20
    while team.calls < calls:
        normalise()
        assert time.monotonic() < end


@needs_kernels
def test_a_team_that_is_let_in_late_is_left_alone_for_a_while(openmp):
    team = Team()
    openmp(team.parallel)
    torch.set_num_threads(2)
    team.late_seconds = 0.02
    normalise_until(team, calls=1)  # a period that another test began may have to end first
    begin = time.monotonic()
    for _ in range(20):
        normalise()
    calls = team.calls
    assert calls <= 2 + (time.monotonic() - begin) / 0.1  # no period is shorter
    team.late_seconds = 0.0
    normalise_until(team, calls=calls + 1)


@needs_kernels
def test_a_team_that_is_always_late_is_tried_ever_more_rarely(openmp):
    team = Team()
    openmp(team.parallel)
    torch.set_num_threads(2)
    team.late_seconds = 0.02
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        normalise()
    assert 1 <= team.calls <= 6  # periods of 0.1, 0.2, 0.4 and 0.8 seconds


@needs_kernels
def test_a_block_is_the_same_by_any_number_of_any_threads(openmp):
    torch.manual_seed(0)
    packed, x = PackedBlock(torch.float32, parameters_of(), EPS), torch.randn(3, 50, 12)
    torch.set_num_threads(1)
    expected = packed(x, None)[:2]
    for threads in range(1, 9):
        torch.set_num_threads(threads)
        openmp(None)
        own = packed(x, None)[:2]
        loading.share_threads(cpp.library())
        lent = packed(x, None)[:2]
        for found in (own, lent):
            assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


# ---- processes

PROGRAM = """
import multiprocessing, time, warnings
import torch
from torch.utils.data import DataLoader, Dataset
from rmeeto.ops.impl import cpp
from rmeeto.ops.impl.cpp import loading
loading.share_threads = lambda library: None
torch.set_num_threads(4)

def normalise(index=0):
    x = torch.full((8, 32, 64), 1.0 + index)  # so small that PyTorch, whose threads do not survive a fork, uses none
    return cpp.add_norm(x, None, torch.ones(64), 1e-5, torch.float32)[0].sum().item()

class Sums(Dataset):
    def __len__(self):
        return 4
    def __getitem__(self, index):
        torch.set_num_threads(2)
        return normalise(index)

expected = [normalise(index) for index in range(4)]
"""


def run(program):
    return subprocess.run([sys.executable, "-c", PROGRAM + program], check=True, timeout=60)


@needs_kernels
def test_a_process_ends_while_helpers_sleep_or_wait():
    begin = time.monotonic()
    run("time.sleep(0.1)")
    run("normalise()")
    assert time.monotonic() - begin < 40


@needs_kernels
@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not fork")
def test_forked_workers_of_a_loader_compute_what_their_parent_does():
    run(
        """
warnings.simplefilter("ignore")
loader = DataLoader(Sums(), batch_size=None, num_workers=2, multiprocessing_context="fork")
for _ in range(2):
    assert list(loader) == expected
normalise()
"""
    )
