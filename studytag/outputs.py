"""Where outputs may go: what a user would lose is refused before any work."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import ExitStack, contextmanager
from pathlib import Path

from studytag.errors import InputError
from studytag.files import output_in_use
from studytag.files.locks import output_lock

logger = logging.getLogger(__name__)


def refuse_overwriting(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Refuse files to write of which one would replace an input or another output.

    Raises:
        InputError: one would, by whatever path or link it is named.
    """
    taken = {os.path.realpath(path): "the input itself" for path in inputs}
    for path in outputs:
        place = os.path.realpath(path)
        if place in taken:
            raise InputError(f"{path}: is {taken[place]}; name another output")
        taken[place] = "an output already"


@contextmanager
def reserved(
    path: Path | None, inputs: Iterable[Path], outputs: Iterable[Path] = ()
) -> Iterator[None]:
    """Keep the place of a file that is written when the work of the block is done.

    Args:
        path: The file; None where it is not wanted.
        inputs: Of the same work.
        outputs: Its others.

    Raises:
        InputError: the file would replace one of these, it cannot be written, or another run
            holds it.
    """
    if path is None:
        yield
        return
    refuse_overwriting([*outputs, path], inputs)
    with output_in_use(path):
        yield


@contextmanager
def folder_in_use(folder: Path, shown: str) -> Iterator[None]:
    """Keep other processes from a folder while the block works in it; it is created.

    Args:
        folder: Gets a lock file, `.lock`.
        shown: What messages call it.

    Raises:
        InputError: another process holds it, which is named, or it cannot be written.
    """
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            held = stack.enter_context(output_lock(folder / ".lock", shown))
        except OSError as error:
            raise InputError(f"{shown}: cannot be written ({error.strerror})") from error
        if not held:
            logger.warning("%s: its file system has no locks; use it from one process alone", shown)
        yield


def refuse_loss(
    folder: Path, maker: str, mark: str, written: AbstractSet[str], kept: Iterable[Path] = ()
) -> None:
    """Refuse to replace a folder that holds anything but what was written there before.

    Args:
        folder: Will be replaced whole.
        maker: What writes such folders, such as `report`.
        mark: The name of a file that every folder of this maker has.
        written: The names of all that it writes.
        kept: Files that must not lie in the folder, such as the input.

    Raises:
        InputError: something would be lost, or `folder` is not a folder.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is not a folder; name a folder to write")
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if foreign := found - written if mark in found else found:
        raise InputError(
            f"{folder} holds {min(foreign)!r}, which no {maker} wrote; name another folder"
        )
    for path in kept:
        if path.resolve() == folder.resolve():
            raise InputError(f"{folder}: is the input itself; name another folder")
        if path.resolve().is_relative_to(folder.resolve()):
            raise InputError(f"{path} lies in {folder}, which is replaced; name another folder")
