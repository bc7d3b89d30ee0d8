import subprocess
import sys

import pytest

PAGES_OF_A_TENSOR = """
import resource, sys, torch
from rmeeto import keep_freed_memory

kept = keep_freed_memory() if sys.argv[1] == "keep" else None
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(2**23)
before = faults()
for _ in range(10):
    torch.ones(2**23)
print(kept, (faults() - before) // 10)
"""


def pages(choice):
    kept, count = subprocess.check_output([sys.executable, "-c", PAGES_OF_A_TENSOR, choice], text=True).split()
    return kept, int(count)


@pytest.mark.skipif(sys.platform != "linux", reason="a setting of glibc")
def test_kept_memory_costs_no_new_pages():
    kept, count = pages("keep")
    if kept == "False":
        pytest.skip("this C library has no such setting")
    assert count < 2**12  # half of what it has
    assert pages("as ever")[1] > 2**12, "the test measures nothing: this system keeps memory anyway"
