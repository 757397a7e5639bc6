"""What a reader has to say about a file: which text feeds the model, and which would be ignored."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from studytag.errors import InputError
from studytag.files.fields import MODEL_FIELDS
from studytag.files.notices import notice
from studytag.files.options import ReadOptions
from studytag.records import Row

_FUNCTION_WORDS = frozenset(
    "the of and in to was were with we for a an is are that by on from as at this which or "
    "de la el los las que en del y der die das und den von mit les des et une dans o da do".split()
)
_MANY_WORDS = 25
_SOME_WORDS = 8
_WORD = re.compile(r"[^\W\d_]+")


def is_prose(value: Any) -> bool:
    """Whether a value reads like sentences: many words, or some of which join the others."""
    if not isinstance(value, str) or len(value) < 30:
        return False
    words = _WORD.findall(value[:2000].lower())
    if ";" in value and value.count(";") * 4 > len(words):  # a list
        return False
    joining = sum(word in _FUNCTION_WORDS for word in words)
    return joining >= 2 and (len(words) >= _SOME_WORDS or len(words) >= _MANY_WORDS)


class TextWatch:
    """Follows the rows of a file and tells, at its end, whether text was left unread.

    Args:
        path: The file.
        options: How the file is read: whether to raise instead of warning where no row has an
            abstract and a column with prose was ignored, and whether to be silent otherwise.
        what: What the file calls a column.

    Attributes:
        watching: Whether there is anything left to find out from further rows.
        on_columns: Of the options.
    """

    def __init__(self, path: Path, options: ReadOptions, what: str = "column") -> None:
        self._path = path
        self._refuse = options.refuse_ignored_text
        self._quiet = options.quiet
        self.on_columns = options.on_columns
        self._what = what
        self._unfilled = set(MODEL_FIELDS)
        self._prose: dict[str, str] = {}
        self._said: set[str] = set()
        self._feeds: set[str] = set()
        self._rows = 0
        self.watching = True

    def feeds(self, sources: dict[str, list[str]]) -> None:
        """Log which columns feed which field, once for each way there is.

        A field that a column of its own name feeds goes without saying.
        """
        if self._quiet:
            return
        mapping = "; ".join(
            f"{name} from {', else '.join(map(repr, columns))}"
            for name, columns in sources.items()
            if columns != [name]
        )
        if mapping and mapping not in self._feeds and len(self._feeds) < 3:
            self._feeds.add(mapping)
            notice("%s: %s", self._path, mapping, level=logging.INFO)

    def odd(self, column: str, value: Any, where: str) -> None:
        """Warn, once for each column, of a value that was not understood."""
        if column not in self._said and not self._quiet:
            self._said.add(column)
            notice(
                "%s: %s %r holds %.60r, which says no %s; it is kept as it is",
                *(where, self._what, column, value, "year" if column == "year" else "list"),
            )

    def row(self, row: Row, ignored: Iterable[tuple[str, Any]]) -> None:
        """Follow a row; `ignored` are the columns that feed neither title nor abstract."""
        self._rows += 1
        if not self._unfilled:
            return
        self._unfilled -= {name for name in self._unfilled if row.get(name)}
        self.watching = bool(self._unfilled)
        if self._unfilled:
            for name, value in ignored:
                if name not in self._prose and is_prose(value):
                    self._prose[name] = value

    def finish(self) -> None:
        """Tell of text that was left unread.

        Raises:
            InputError: as the class says.
        """
        if not self._rows or not self._unfilled or not self._prose:
            return
        lacking = " and ".join(f"{name}" for name in MODEL_FIELDS if name in self._unfilled)
        name, text = next(iter(self._prose.items()))
        wanted = "abstract" if "abstract" in self._unfilled else "title"
        message = (
            f"{self._path}: no row has any {lacking}, but {self._what} {name!r} holds text "
            f"({' '.join(text.split())[:40]} ...); "
            f"rename it to {wanted!r}"
        )
        if self._refuse and "abstract" in self._unfilled:
            raise InputError(f"{message}, or give --title-only")
        if not self._quiet:
            notice("%s", message)
