"""The command ``rmeeto``, and ``python -m rmeeto``."""

import signal
import sys


def main() -> None:
    """Run the command line and leave the process with its exit code; Ctrl-C is answered from the first import on."""
    try:
        from rmeeto.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # while Python exits, nothing is left to clean up


if __name__ == "__main__":
    main()
