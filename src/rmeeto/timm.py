"""Run a script with our models known to timm: ``python -m rmeeto.timm train.py --model vim_tiny …``.

timm's own scripts (train.py, validate.py, benchmark.py, inference.py of its repository) import timm and nothing else,
so they cannot know the names of our models. Everything behind the script's path is the script's, as with
``python train.py …``.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str]) -> None:
    """Run the script that the first argument names as ``__main__``, with the others as its own.

    Raises:
        SystemExit: no script was given; or the script's own.
    """
    if not arguments or not Path(arguments[0]).is_file():
        given = f"there is no file {arguments[0]}" if arguments else "which script?"
        raise SystemExit(
            f"rmeeto.timm: {given}\nusage: python -m rmeeto.timm SCRIPT.py ARGUMENTS, for instance timm's train.py"
        )
    script = Path(arguments[0])
    sys.argv = list(arguments)
    sys.path[0] = str(script.resolve().parent)  # where `python SCRIPT.py` looks for modules first
    runpy.run_path(str(script), run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])  # `import rmeeto`, which knows timm our models, has happened on the way here
