"""Start a program as torchrun does: one process for each rank, all of which know where to meet."""

import os
import socket
import subprocess
import sys
from pathlib import Path


def start(command, processes):
    """The started processes, in the order of their ranks; stderr is read as text."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    paths = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    common = os.environ | address | {"WORLD_SIZE": str(processes), "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    return [
        subprocess.Popen(command, env=common | {"RANK": rank, "LOCAL_RANK": rank}, stderr=subprocess.PIPE, text=True)
        for rank in map(str, range(processes))
    ]


def run(command, processes):
    """Their exit codes, once all have ended; what they said on stderr is printed."""
    started = start(command, processes)
    outcomes = [(process.communicate(timeout=240)[1], process.returncode) for process in started]
    print(*(stderr for stderr, _ in outcomes))
    return [code for _, code in outcomes]


def python(code, *arguments):
    """A command that runs a program given as text."""
    return [sys.executable, "-c", code, *map(str, arguments)]
