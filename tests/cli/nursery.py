"""Forks a process of the command line for each line of its input, because importing PyTorch takes seconds.

A line is JSON: ``arguments`` of the command, ``inject``, code that is run in the process before it, and ``output``, a
folder for its ``stdout`` and ``stderr``. The answer is one line: the process's number. It leads a session of its own,
and ends as any Python process does.
"""

import json
import os
import signal
import sys

import torch

import rmeeto.data
import rmeeto.evaluation
import rmeeto.training  # noqa: F401
from rmeeto.__main__ import main

torch.set_num_threads(1)
for line in sys.stdin:
    wanted = json.loads(line)
    if (child := os.fork()) == 0:
        os.setsid()
        for name, number in (("stdout", 1), ("stderr", 2)):
            os.dup2(os.open(os.path.join(wanted["output"], name), os.O_CREAT | os.O_WRONLY, 0o600), number)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.argv = ["rmeeto", *wanted["arguments"]]
        exec(wanted["inject"], {"output": wanted["output"]})
        main()
        sys.exit()  # never reached: the command line ends its process itself
    print(child, flush=True)
    status = os.waitpid(child, 0)[1]
    print(os.waitstatus_to_exitcode(status), flush=True)
