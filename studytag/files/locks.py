"""One writer for each output: a lock that the system gives back when its holder dies."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from studytag.errors import OutputInUseError

_LOCKED_BYTE = 2**30  # Windows locks bytes and hides them: far behind the holder's name


@contextmanager
def output_lock(lock: Path, shown: str | os.PathLike[str]) -> Iterator[bool]:
    """Hold the lock file `lock` while the block runs.

    Args:
        lock: Created where it is not there, removed at the end.
        shown: The output that it stands for, as the user named it.

    Yields:
        Whether the lock is held. False where the file system has no locks: then nobody is kept
        out, and nothing may be concluded from having come this far.

    Raises:
        OutputInUseError: another process, or another writer of this one, holds it.
        OSError: the lock file cannot be created.
    """
    descriptor = _acquire(lock, shown)
    if descriptor is None:
        yield False
        return
    try:
        yield True
    finally:
        # While it is still held: removed after, it could be the next holder's.
        if os.name == "posix":
            lock.unlink(missing_ok=True)
        os.close(descriptor)
        if os.name != "posix":
            with suppress(OSError):
                lock.unlink(missing_ok=True)


def _acquire(lock: Path, shown: str | os.PathLike[str]) -> int | None:
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            held = _try_lock(descriptor)
            if held is False:
                holder = os.read(descriptor, 200).decode("utf-8", "replace").strip()
                raise OutputInUseError(
                    f"{shown}: is being written by {holder or 'another process'}; "
                    f"wait for it, or name another output"
                )
            if held is None:
                os.close(descriptor)
                return None
            if _still_named(descriptor, lock):
                since = time.strftime("%Y-%m-%d %H:%M:%S")
                name = f"process {os.getpid()} on {socket.gethostname()} since {since}"
                os.ftruncate(descriptor, 0)
                os.write(descriptor, name.encode())
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its holder removed it meanwhile


def _still_named(descriptor: int, lock: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(lock))
    except FileNotFoundError:
        return False


def _try_lock(descriptor: int) -> bool | None:
    """True if locked, False if another holds it, None if the file system knows no locks."""
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            os.lseek(descriptor, 0, os.SEEK_SET)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        os.lseek(descriptor, 0, os.SEEK_SET)
        return False
    except OSError:
        return None
    return True
