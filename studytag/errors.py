"""The errors a user can cause and mend. Everything else is a bug and keeps its traceback."""

from __future__ import annotations

import errno
import importlib
from collections.abc import Callable
from types import ModuleType

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
"""What the system says of a disk that takes no more."""


class StudytagError(Exception):
    """Base of every error with a one-line message for the user.

    Attributes:
        exit_code: What a command ends with.
    """

    exit_code = 2


class InputError(StudytagError, ValueError):
    """A file, row, field or option is wrong. The message names it and says how to mend it."""


class OutputInUseError(InputError):
    """Another process writes the same output. The message names it."""


class CellTooLongError(InputError):
    """A text is too long for a cell of the output.

    Attributes:
        longest: The most characters that a cell takes.
        cut: Gives as much of a text as a cell takes.
    """

    def __init__(self, message: str, longest: int, cut: Callable[[str], str]) -> None:
        super().__init__(message)
        self.longest = longest
        self.cut = cut


class StorageError(StudytagError):
    """The disk failed under work that was going well: full, read-only, gone. What is kept is named.

    Exit code 74, sysexits' EX_IOERR.
    """

    exit_code = 74


class StoppedError(StudytagError):
    """Work ended early because it was asked to; the same command goes on with it.

    Exit code 75, sysexits' EX_TEMPFAIL.
    """

    exit_code = 75


class FilesFailedError(StudytagError):
    """Of a folder, all files are done but some that could not be tagged. The message names them.

    Exit code 65, sysexits' EX_DATAERR.
    """

    exit_code = 65


class BundleError(StudytagError):
    """A model folder or bundle is incomplete, altered, or newer than this code understands."""


class MissingDependencyError(StudytagError, ImportError):
    """An optional package is needed. The message names the extra that brings it."""


def missing_dependency(package: str, extra: str) -> MissingDependencyError:
    """The error to raise `from` an ImportError of `package`, which comes with `extra`."""
    return MissingDependencyError(
        f"{package} is not installed; install it with: pip install 'studytag[{extra}]'"
    )


def import_extra(module: str, extra: str) -> ModuleType:
    """Import `module`, which only the extra `extra` installs.

    Returns:
        The module itself, also where `module` names a submodule (`pyarrow.parquet`).

    Raises:
        MissingDependencyError: it, or a package that it needs, is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise missing_dependency(error.name or module, extra) from error
