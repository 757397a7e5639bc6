"""Which row of a table names its columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from studytag.files.fields import MODEL_FIELDS, column_field

_LONGEST_NAME = 60


@dataclass(frozen=True)
class Header:
    """A row that names columns.

    Attributes:
        number: How many rows, or lines of text, stand before it.
        fields: What its cells name of what we know.
        width: Its cells, without the empty ones at its end.
    """

    number: int
    fields: frozenset[str]
    width: int


def find_header(rows: Iterable[tuple[int, Sequence[str]]]) -> Header | None:
    """The first row that names titles or abstracts, or a later one that names more and is wider.

    What stands before a header, such as a lone "Title", is narrower than it; what stands below it
    is not wider: a record that says "Abstract" and "No" is none.

    Args:
        rows: Numbered as `Header.number` says.
    """
    best: Header | None = None
    for number, cells in rows:
        fields = frozenset(filter(None, map(known_field, cells)))
        width = max((place for place, cell in enumerate(cells, 1) if cell.strip()), default=0)
        more = best is None or (len(fields) > len(best.fields) and width > best.width)
        if more and fields & {*MODEL_FIELDS}:
            best = Header(number, fields, width)
    return best


def known_field(cell: str) -> str | None:
    """The field that a cell of a header names."""
    if len(cell) > _LONGEST_NAME:
        return None
    found = column_field(cell.strip())
    return found[0].name if found else None
