"""A fingerprint of the C++ sources, by which a library built from other sources is recognised.

``setup.py`` runs this file by its path to compile the fingerprint into the library, so it imports the standard library
only.
"""

from hashlib import sha256
from pathlib import Path

SUFFIXES = (".cpp", ".h")


def fingerprint(folder: Path) -> str | None:
    """SHA-256 of the names and contents of all sources below ``folder``; None if it holds no source."""
    digest, sources = sha256(), sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES)
    for path in sources:
        content = path.read_bytes()
        digest.update(f"{path.relative_to(folder).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest() if sources else None
