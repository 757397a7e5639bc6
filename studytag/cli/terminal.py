"""What may go wrong with a terminal: control characters, and output that is closed."""

from __future__ import annotations

import io
import logging
import os
import re
import sys
from contextlib import suppress

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""Escape sequences (which move the cursor, or worse) begin with one of these, and so do the marks
that turn the direction of writing. Tabs and line feeds are harmless."""


def printable(text: str) -> str:
    r"""Text of a file as a terminal may be shown it: control characters as `\x1b`."""
    return _CONTROL.sub(lambda match: ascii(match.group())[1:-1], text)


def show(text: str) -> None:
    """Write text for people, which may quote a file, to standard output."""
    sys.stdout.write(printable(text))


class LineFormatter(logging.Formatter):
    """A log message without control characters: it may quote a file."""

    def format(self, record: logging.LogRecord) -> str:
        """The message, printable."""
        return printable(super().format(record))


class ClosedOutput(io.TextIOBase):
    """Stands for a standard output that was closed (`>&-`): writing to it is an error, once."""

    def write(self, text: str) -> int:
        """Refuse.

        Raises:
            OSError: always.
        """
        raise OSError("standard output is closed; send it to a file or to /dev/null")


def repair_streams() -> None:
    r"""Make standard streams take whatever is written to them.

    Those that were closed, for which Python has None, are replaced. Characters that the encoding
    of standard output lacks are written as `\u03b1`, as standard error does.
    """
    if sys.stdout is None:
        sys.stdout = ClosedOutput()
    elif isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")


def discard_output() -> None:
    """Let nothing more go to a standard output that takes no more, not even at the end."""
    with suppress(OSError, ValueError):  # it has no descriptor
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
