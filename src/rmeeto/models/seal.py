"""The hash and the description inside the weight files that rmeeto writes.

Both are in the file's own metadata. So one rename replaces weights, hash and sizes together: a kill cannot leave new
weights beside an old hash, and a file copied without its folder can still be checked.

``rmeeto_sha256`` is the SHA-256 of the whole file with these 64 digits written as zeros. ``rmeeto_config`` is the JSON
of ``config.json``. A file without them is from another program, or from an earlier version.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from rmeeto.errors import CheckpointError
from rmeeto.files.paths import open_file

HASH, DESCRIPTION = "rmeeto_sha256", "rmeeto_config"
NO_HASH = "0" * 64
LONGEST_HEADER = 100_000_000  # bytes; the format's own limit
CHUNK = 1 << 20


def unsealed(metadata: Mapping[str, str], description: Mapping[str, Any]) -> dict[str, str]:
    """Metadata with the description, and room for the hash."""
    return {**metadata, DESCRIPTION: json.dumps(description), HASH: NO_HASH}


def seal(content: bytes) -> tuple[bytes, memoryview, str]:
    """Put the hash into a safetensors file that was made with :func:`unsealed` metadata.

    Returns the header with the hash, the rest, and the hash.
    """
    end = 8 + int.from_bytes(content[:8], "little")
    header, rest = content[:end], memoryview(content)[end:]
    digest = hashlib.sha256(header)
    digest.update(rest)
    assert header.count(_entry(NO_HASH)) == 1, "the metadata has no room for the hash"
    return header.replace(_entry(NO_HASH), _entry(digest.hexdigest())), rest, digest.hexdigest()


def read_seal(file: Path) -> tuple[str, dict[str, Any]] | None:
    """The hash and the description in a file; None if it has none, or its header is damaged.

    Only the header is read: :func:`check_seal` compares the hash with the content.
    """
    try:
        with open_file(file) as stream:
            metadata = _metadata(_header(stream))
        description = json.loads(metadata[DESCRIPTION])
        return (metadata[HASH], description) if isinstance(description, dict) else None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def check_seal(file: Path) -> None:
    """Compare the content of a file that rmeeto wrote with the hash in it; another file is left unchecked.

    Raises:
        CheckpointError: the content is not what was written. OSError: it cannot be read.
    """
    with open_file(file) as stream:
        header = _header(stream)
        try:
            metadata = _metadata(header)
        except (ValueError, RecursionError):
            return  # the loader raises an error that says what is wrong
        if not metadata.keys() & {HASH, DESCRIPTION}:
            return
        digest = hashlib.sha256(header.replace(_entry(str(metadata.get(HASH))), _entry(NO_HASH)))
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    if digest.hexdigest() != metadata.get(HASH):
        raise CheckpointError(
            f"load weights from {file}",
            given=f"SHA-256 {digest.hexdigest()[:16]}…, written with it {str(metadata.get(HASH))[:16]}…",
            why="the file is damaged, or another program changed it: its content is not what rmeeto wrote",
            fix="copy it again from a whole copy; of a run, best/ holds a second model. If it was changed on purpose, "
            f"save it without {HASH} and {DESCRIPTION} in its metadata",
        )


def _header(stream: BinaryIO) -> bytes:
    start = stream.read(8)
    return start + stream.read(min(int.from_bytes(start, "little"), LONGEST_HEADER))


def _metadata(header: bytes) -> dict[str, Any]:
    content = json.loads(header[8:])
    metadata = content.get("__metadata__", {}) if isinstance(content, dict) else {}
    return metadata if isinstance(metadata, dict) else {}


def _entry(value: str) -> bytes:
    return f'"{HASH}":"{value}"'.encode()
