"""One JSON object per line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from studytag.errors import InputError
from studytag.files.columns import canonical_names, missing, tidy
from studytag.files.streams import text_lines
from studytag.records import Row


def read(path: Path) -> Iterator[Row]:
    """The objects of the file; empty lines are passed over.

    Raises:
        InputError: a line is not UTF-8, not JSON, not an object, or holds half a character.
    """
    for number, line in enumerate(text_lines(path), 1):
        if line.strip():
            where = f"{path}: line {number}"
            row = _object(line, where)
            yield tidy(dict(zip(canonical_names(list(row)), row.values(), strict=True)), where)


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "cannot be read"
        raise InputError(f"{where}: not JSON ({reason}); write one object per line") from error
    if not isinstance(value, dict):
        raise InputError(
            f"{where}: a {type(value).__name__} where an object is needed; "
            'write one object per line: {"title": ..., "abstract": ...}'
        )
    if "\\ud" in line.lower():
        _check_surrogates(value, where)
    return value


def _check_surrogates(value: dict[str, Any], where: str) -> None:
    r"""Refuse text cut in the middle of a `\ud83d\ude00` pair: no file or tokenizer can take it."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = ascii(error.object[error.start])[1:-1]
        raise InputError(f"{where}: {half} is half a character; remove it") from error


class JsonlWriter:
    """Writes rows as lines of JSON; missing values are null, other foreign values their text.

    Args:
        stream: Where the text goes.
        target: The file's final name, for messages.
    """

    def __init__(self, stream: TextIO, target: Path) -> None:
        self._stream = stream
        self._target = target
        self._rows = 0

    def write(self, row: Row) -> None:
        """Add a row.

        Raises:
            InputError: it holds a number that JSON cannot say (NaN in a list, infinity).
        """
        self._rows += 1
        cells = {name: None if missing(value) else value for name, value in row.items()}
        try:
            line = json.dumps(cells, ensure_ascii=False, allow_nan=False, default=_plain)
        except ValueError as error:
            raise InputError(f"{self._target}: row {self._rows}: {error}; remove it") from error
        self._stream.write(line + "\n")


def _plain(value: Any) -> Any:
    """What JSON makes of numpy's numbers and arrays, dates and the like."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
