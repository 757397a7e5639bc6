"""Files that a run keeps for later ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from studytag.errors import InputError
from studytag.files import atomic_path


@contextmanager
def cache_file(target: Path) -> Iterator[Path]:
    """Yield a temporary file that becomes `target` when the block ends without an exception.

    Raises:
        InputError: it cannot be written.
    """
    try:
        with atomic_path(target) as temporary:
            yield temporary
    except OSError as error:
        raise InputError(
            f"{target}: cannot be written ({error}); free some space, or give another --cache-dir"
        ) from error
