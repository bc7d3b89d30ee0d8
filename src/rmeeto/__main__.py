"""``python -m rmeeto`` is the command ``rmeeto``."""

from rmeeto.cli import main

if __name__ == "__main__":
    main()
