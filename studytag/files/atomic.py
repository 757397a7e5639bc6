"""Files and folders that appear complete or not at all.

The new content is written beside its target under a random temporary name, flushed to disk and
then renamed, so that a crash, a full disk or an exception leaves what was there before untouched.
While it is written the output is locked; what a killed writer left is removed by the next one.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from studytag.errors import DISK_ERRORS, InputError, OutputInUseError
from studytag.files.locks import output_lock

_LONGEST_STEM = 180  # bytes; file systems take 255, and the temporary name is longer than the name
_EXCHANGE = 2  # RENAME_EXCHANGE of Linux and RENAME_SWAP of macOS
_HERE = -100  # AT_FDCWD


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary file that replaces `path` when the block ends without an exception.

    A link is followed, so that it still points to the file afterwards. The folder is created.
    A file that is replaced hands its permissions on.

    Raises:
        InputError: the place cannot be written or the disk is full, `path` is a folder or a
            device, or another writer is at work on it.
    """
    target = _resolved(path)
    if target.exists() and not target.is_file():
        raise InputError(f"{path}: is not a file; name a file to write")
    with _prepared(path, target) as temporary:
        with _one_line(path):
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            if target.exists():
                shutil.copymode(target, temporary)
        try:
            with _one_line(path, temporary):
                yield temporary
            with _one_line(path):
                _flush_file(temporary)
                os.replace(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        flush_folder(target.parent)


@contextmanager
def output_in_use(path: str | os.PathLike[str]) -> Iterator[None]:
    """Keep other runs from the output `path` while the block runs; its folder is created.

    For work that writes the output more than once, or late: `atomic_path` locks only what it
    writes.

    Raises:
        InputError: the place cannot be written, or another run holds it, which is named.
    """
    target = _resolved(path)
    with ExitStack() as stack:
        with _one_line(path):
            if target.exists() and not target.is_file():
                raise InputError(f"{path}: is not a file; name a file to write")
            target.parent.mkdir(parents=True, exist_ok=True)
            lock = target.with_name(f".{short_name(target)}.run-lock")
            stack.enter_context(output_lock(lock, path))
        yield


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary folder that replaces the folder `path`, with everything in it, at the end.

    Raises:
        InputError: the place cannot be written or the disk is full, `path` is a file, it holds
            the folder that the process works in (which would be deleted), or another writer is at
            work on it.
    """
    target = _resolved(path)
    if target.exists() and not target.is_dir():
        raise InputError(f"{path}: is not a folder; name a folder to write")
    if Path.cwd().is_relative_to(target):
        raise InputError(f"{path}: is or holds the current folder; name a new folder to write")
    with _prepared(path, target) as temporary:
        with _one_line(path):
            temporary.mkdir()
        try:
            with _one_line(path, temporary):
                yield temporary
            with _one_line(path):
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


def replace_folder(new: Path, target: Path) -> None:
    """Flush the folder `new` to disk and put it in the place of `target`, on the same disk.

    On Linux and macOS the two are exchanged in one step: a process killed at any moment leaves
    either of them under the name. Elsewhere there is a moment with neither; `repair_folder`, which
    `atomic_folder` calls too, then brings the former one back.

    Raises:
        OSError: that failed; what was there is there again.
    """
    _flush_tree(new)
    if not target.exists():
        os.rename(new, target)
    elif _exchange(new, target):
        shutil.rmtree(new, ignore_errors=True)
    else:
        _replace_in_two_steps(new, target)
    flush_folder(target.parent)


def repair_folder(target: Path) -> None:
    """Put a folder back that a process, killed between two renames, left under another name.

    For readers of a folder that `replace_folder` writes, on systems that cannot exchange folders.
    One whose writer lives is left to it, and so is what this process may not write.
    """
    try:
        if target.exists() or not target.parent.is_dir() or not _leftovers(target, "old"):
            return
        with output_lock(_lock_of(target), target) as held:
            if held:
                _tidy(target)
    except (OutputInUseError, OSError):
        return


def _tidy(target: Path) -> None:
    """Put back what a killed writer took away, and remove what it left."""
    if not target.exists() and (former := _leftovers(target, "old")):
        os.rename(max(former, key=lambda path: path.stat().st_mtime), target)
    for leftover in (*_leftovers(target, "partial"), *_leftovers(target, "old")):
        _remove(leftover)


def _lock_of(target: Path) -> Path:
    return target.with_name(f".{short_name(target)}.lock")


def _replace_in_two_steps(new: Path, target: Path) -> None:
    old = _sibling(target, "old")
    os.rename(target, old)
    try:
        os.rename(new, target)
    except OSError:
        os.rename(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _exchange(first: Path, second: Path) -> bool:
    """Swap two folders in one step; False where the system or the file system cannot."""
    names = os.fsencode(first), os.fsencode(second)
    if sys.platform == "linux":
        rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
        arguments: tuple[Any, ...] = (_HERE, names[0], _HERE, names[1], _EXCHANGE)
    elif sys.platform == "darwin":
        rename = getattr(ctypes.CDLL(None, use_errno=True), "renamex_np", None)
        arguments = (*names, _EXCHANGE)
    else:
        return False
    if rename is None:
        return False
    if rename(*arguments) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM):
        return False
    raise OSError(code, os.strerror(code), str(second))


@contextmanager
def _prepared(path: str | os.PathLike[str], target: Path) -> Iterator[Path]:
    """Lock the output, tidy up after writers that were killed, and yield a new temporary name."""
    with _one_line(path):
        target.parent.mkdir(parents=True, exist_ok=True)
        # A writer that was killed left its lock. Without one nothing is looked for: listing a
        # folder for each of its files takes the square of their number.
        killed = _lock_of(target).exists()
        lock = output_lock(_lock_of(target), path)
        held = lock.__enter__()
    try:
        if held and killed:  # so whatever lies there has no living owner
            _tidy(target)
        yield _sibling(target, "partial")
    finally:
        lock.__exit__(None, None, None)


def _resolved(path: str | os.PathLike[str]) -> Path:
    with _one_line(path):
        target = Path(os.path.realpath(path))
        if target.parent.is_dir():
            target.exists()  # a name that is too long is reported now, not when all is computed
        return target


@contextmanager
def _one_line(path: str | os.PathLike[str], temporary: Path | None = None) -> Iterator[None]:
    """Turn what the system says against writing `path` into a message of one line.

    Args:
        path: The output, as the user named it.
        temporary: Where a caller's block writes: its other errors have nothing to do with that.
    """
    try:
        yield
    except OSError as error:
        if temporary and not _concerns(error, temporary):
            raise
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "free some space or choose another place" if full else "choose another place"
        reason = error.strerror or " ".join(str(error).split())
        raise InputError(f"{path}: cannot be written ({reason}); {remedy}") from error


def _concerns(error: OSError, temporary: Path) -> bool:
    if error.errno not in DISK_ERRORS:
        return False
    return error.filename is None or str(error.filename).startswith(str(temporary))


def short_name(target: Path) -> str:
    """The name of `target`, or of a long one its beginning and a hash.

    For hidden files beside it, whose names are longer than its own.
    """
    name = target.name.encode("utf-8", "surrogateescape")
    if len(name) <= _LONGEST_STEM:
        return target.name
    digest = hashlib.blake2b(name, digest_size=8).hexdigest()
    return name[: _LONGEST_STEM - 20].decode("utf-8", "ignore") + f"-{digest}"


def _sibling(target: Path, role: str) -> Path:
    return target.with_name(f".{short_name(target)}.{secrets.token_hex(6)}.{role}")


def _leftovers(target: Path, role: str) -> list[Path]:
    # A writer may keep others beside its temporary one (`.narrow0`, of parquet).
    name = re.escape(short_name(target))
    pattern = re.compile(rf"\.{name}\.[0-9a-f]{{12}}\.{role}(\.[a-z]+[0-9]*)?")
    return [entry for entry in target.parent.iterdir() if pattern.fullmatch(entry.name)]


def _remove(leftover: Path) -> None:
    if leftover.is_dir():
        shutil.rmtree(leftover, ignore_errors=True)
    else:
        leftover.unlink(missing_ok=True)


def _flush_tree(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_dir():
            flush_folder(path)
        elif path.is_file():
            _flush_file(path)


def _flush_file(path: Path) -> None:
    # Windows flushes only what is open for writing; elsewhere a file without write permission
    # must be flushed too.
    with open(path, "rb" if os.name == "posix" else "rb+") as stream:
        os.fsync(stream.fileno())


def flush_folder(path: Path) -> None:
    """Make a rename in `path` survive a power cut; Windows can neither open nor flush a folder."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
