"""Start a program as torchrun does: one process for each rank, all of which know where to meet."""

import socket

from fresh import Fresh


def start(processes, code, *arguments):
    """The started processes, in the order of their ranks, with one thread each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    common = address | {"WORLD_SIZE": str(processes), "OMP_NUM_THREADS": "1"}
    return [
        Fresh(code, *arguments, environment=common | {"RANK": rank, "LOCAL_RANK": rank}, threads=1)
        for rank in map(str, range(processes))
    ]


def run(processes, code, *arguments):
    """Their exit codes, once all have ended; what they said on stderr is printed."""
    started = start(processes, code, *arguments)
    codes = [process.wait() for process in started]
    print(*(process.stderr for process in started))
    return codes
