"""Apostrophes before text that Excel would compute, and the column that tells ours from others'.

A file written for Excel has a last column, `studytag_apostrophes`, which names the columns of each
row whose cell got one. Reading takes these apostrophes away, and the column with them: a cell that
began with an apostrophe of its own is not named there, and keeps it.
"""

from __future__ import annotations

from collections.abc import Sequence

from studytag.files.tables import unique_names
from studytag.files.values import join_list, to_list

APOSTROPHES = "studytag_apostrophes"

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def guarded(cells: Sequence[str], names: Sequence[str], texts: Sequence[bool]) -> list[str]:
    """The cells of a row as Excel leaves them alone, and one more that names those changed.

    Args:
        cells: The row.
        names: Of its columns, each another.
        texts: Which cells are text: a negative number stays one.
    """
    odd = [text and cell.startswith(_FORMULA) for cell, text in zip(cells, texts, strict=True)]
    marked = [name for name, changed in zip(names, odd, strict=True) if changed]
    written = [f"'{cell}" if changed else cell for cell, changed in zip(cells, odd, strict=True)]
    return [*written, join_list(marked)]


class Unguarded:
    """Takes our apostrophes away again, where a file has the column that names them.

    Args:
        header: The file's.

    Attributes:
        header: The same without that column.
    """

    def __init__(self, header: Sequence[str]) -> None:
        self._place = header.index(APOSTROPHES) if APOSTROPHES in header else None
        self.header = self._rest(header)
        self._positions = {name: place for place, name in enumerate(unique_names(self.header))}

    def cells(self, cells: list[str]) -> list[str]:
        """The cells of a row as they were before."""
        if self._place is None or self._place >= len(cells):
            return cells
        plain = self._rest(cells)
        for name in to_list(cells[self._place]) or ():
            place = self._positions.get(name, len(plain))
            if place < len(plain) and plain[place][1:].startswith(_FORMULA):
                plain[place] = plain[place].removeprefix("'")
        return plain

    def _rest(self, cells: Sequence[str]) -> list[str]:
        return [cell for place, cell in enumerate(cells) if place != self._place]
