"""SHA-256 of files: how a folder proves that it is as it was written."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def hash_files(folder: Path, leave_out: Collection[str] = ()) -> dict[str, str]:
    """SHA-256 of every file below `folder`, by POSIX path inside it.

    Args:
        folder: The folder.
        leave_out: Names of files, such as the manifest that will hold the hashes.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): sha256(path)
        for path in files
        if path.name not in leave_out
    }
