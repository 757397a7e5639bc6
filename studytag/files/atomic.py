"""Files and folders that appear complete or not at all.

The new content is written beside its target under a temporary name, flushed to disk and then
renamed, so that a crash, a full disk or an exception leaves what was there before untouched.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from studytag.errors import InputError


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary file that replaces `path` when the block ends without an exception.

    A link is followed, so that it still points to the file afterwards. The folder is created.

    Raises:
        InputError: the place cannot be written, or `path` is a folder or a device.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise InputError(f"{path}: is not a file; name a file to write")
    temporary = _sibling(target, "partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror}); choose another place"
        ) from error
    try:
        yield temporary
        _flush_file(temporary)
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _flush_folder(target.parent)


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary folder that replaces the folder `path`, with everything in it, at the end.

    Raises:
        InputError: the place cannot be written, `path` is a file, or it holds the folder that
            the process works in (which would be deleted).
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_dir():
        raise InputError(f"{path}: is not a folder; name a folder to write")
    if Path.cwd().is_relative_to(target):
        raise InputError(f"{path}: is or holds the current folder; name a new folder to write")
    temporary = _sibling(target, "partial")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror}); choose another place"
        ) from error
    try:
        yield temporary
        replace_folder(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def write_text_atomically(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` as UTF-8, or leave the file at `path` as it was.

    Raises:
        InputError: as `atomic_path`.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json_atomically(path: str | os.PathLike[str], value: Any) -> None:
    """Write `value` as indented JSON with its keys in the given order.

    Raises:
        InputError: as `atomic_path`.
        ValueError: `value` holds NaN or infinity, which JSON cannot say.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    write_text_atomically(path, text + "\n")


def _sibling(target: Path, role: str) -> Path:
    return target.with_name(f".{target.name}.{role}-{os.getpid()}")


def replace_folder(new: Path, target: Path) -> None:
    """Flush the folder `new` to disk and put it in the place of `target`, on the same disk.

    A folder that was there comes back if that fails.
    """
    for file in new.rglob("*"):
        if file.is_file():
            _flush_file(file)
    old = _sibling(target, "old")
    if target.exists():
        os.rename(target, old)
    try:
        os.rename(new, target)
    except OSError:
        if old.exists():
            os.rename(old, target)
        raise
    _flush_folder(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def _flush_file(path: Path) -> None:
    with open(path, "rb+") as stream:
        os.fsync(stream.fileno())


def _flush_folder(path: Path) -> None:
    """Make a rename in `path` survive a power cut; Windows can neither open nor flush a folder."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
