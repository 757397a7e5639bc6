"""Who works on which file of a folder: claims that machines make by creating a file.

A claim is a file beside the output that can be created only once, `.NAME.claim-1`; its holder
touches it while it works. One that has not been touched for the timeout is stale: another process
takes over by creating `.NAME.claim-2`, which again only one can. A holder that was merely paused
sees that and lets go. Nothing but the creation of files need be atomic, so every shared file system
will do. Claims save work; that an output is right and complete never depends on them.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from studytag.files.atomic import short_name

_SHORTEST_BEAT = 0.2
_LONGEST_BEAT = 30.0


class Claim:
    """An output that is this process's to write, until the block ends.

    Attributes:
        lost: Whether another process has taken it over.
    """

    def __init__(self, target: Path, number: int, timeout: float) -> None:
        """Keep the claim of this number alive; `take` makes it."""
        self._target = target
        self._number = number
        self._beat = min(max(timeout / 5, _SHORTEST_BEAT), _LONGEST_BEAT)
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._keep_alive, daemon=True)
        self.lost = False

    @classmethod
    def take(cls, target: Path, timeout: float, clock: ServerClock) -> Claim | None:
        """Claim an output; None where another process holds it.

        Args:
            target: The output.
            timeout: Seconds without a sign of life after which a claim is stale.
            clock: Of the folder's file system.

        Raises:
            OSError: the folder cannot be written.
        """
        number = 1
        while (age := clock.age(_path(target, number))) is not None:
            number += 1
            if age < timeout and clock.age(_path(target, number)) is None:
                return None
        try:
            descriptor = os.open(_path(target, number), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        except FileExistsError:
            return None
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            json.dump({"process": os.getpid(), "host": socket.gethostname()}, stream)
        return cls(target, number, timeout)

    def __enter__(self) -> Claim:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._released.set()
        self._thread.join(timeout=5)
        if not self.lost:
            # The lowest first: until the last is gone, nobody can make one of that number.
            for number in range(1, self._number + 1):
                with suppress(OSError):
                    _path(self._target, number).unlink(missing_ok=True)

    def _keep_alive(self) -> None:
        while not self._released.wait(self._beat):
            try:
                os.utime(_path(self._target, self._number))
                taken = _path(self._target, self._number + 1).exists()
            except FileNotFoundError:
                taken = True
            except OSError:
                continue  # a server that does not answer now may do so later
            if taken:
                self.lost = True
                return


class ServerClock:
    """The time by the clock that stamps a folder's files, which need not be this machine's.

    Args:
        folder: Where to make a file for a moment, to see its time.

    Raises:
        OSError: the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        probe = folder / f".{secrets.token_hex(6)}.clock"
        probe.touch(exist_ok=False)
        try:
            self._ahead = probe.stat().st_mtime - time.time()
        finally:
            probe.unlink(missing_ok=True)

    def age(self, path: Path) -> float | None:
        """Seconds since a file was touched; None where there is none."""
        try:
            return time.time() + self._ahead - path.stat().st_mtime
        except FileNotFoundError:
            return None


def claim_holder(target: Path) -> str:
    """Who holds an output, for people."""
    number, holding = 1, "another process"
    while _path(target, number).exists():
        with suppress(OSError, ValueError, KeyError, TypeError):
            holder = json.loads(_path(target, number).read_text(encoding="utf-8"))
            holding = f"process {holder['process']} on {holder['host']}"
        number += 1
    return holding


def remove_claims(target: Path) -> None:
    """Remove what dead processes have left of claims on an output that is complete."""
    number = 1
    while _path(target, number).exists():
        with suppress(OSError):
            _path(target, number).unlink()
        number += 1


def _path(target: Path, number: int) -> Path:
    return target.with_name(f".{short_name(target)}.claim-{number}")
