"""Some thousand cases of bad input: each succeeds or ends in one of our errors, soon and within little memory.

In a process of its own, because a case may kill it. ``PYTHONPATH=tests python -m fuzz`` runs more of them.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

CASES = 3000


def test_bad_input_ends_in_success_or_in_one_of_our_errors():
    tests = Path(__file__).parents[1]
    paths = [str(tests), str(tests.parent / "src"), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "fuzz", "--cases", str(CASES)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    report = json.loads(result.stdout or "{}")
    assert report.get("failures") == [], result.stderr[-2000:]
    assert report["crashed_processes"] == 0, result.stderr[-2000:]
    assert report["cases"] == CASES
