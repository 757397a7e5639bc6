"""Habits of programs that write delimited text, which no standard has and no header tells."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence

from studytag.files.fields import column_field

_NO_NUMBERS = ("title", "abstract", "authors", "journal", "pmid", "doi", "year")
"""Fields whose values are never 1, 2, 3."""


def has_bare_quotes(lines: Iterable[str], delimiter: str) -> bool:
    """Whether quotes are letters like others, as in the tab-separated text of Web of Science.

    It is so where every line is a row of several cells, some cell goes on behind what would be its
    closing quote, more lines have wrong quotes than right ones, and no cell needs quotes around it.

    Args:
        lines: From the header on.
        delimiter: Between the cells.
    """
    certain, wrong, right, width = False, 0, 0, 0
    for number, line in enumerate(lines):
        text = line.rstrip("\r\n")
        if number == 0:
            width = text.count(delimiter) + 1
            if width == 1 or '"' in text:
                return False
            continue
        cells = text.split(delimiter, width)
        if text and (len(cells) < width or "".join(cells[width:]).strip(delimiter)):
            return False
        if '"' in text:
            try:
                (values,) = csv.reader([text], delimiter=delimiter, strict=True)
            except csv.Error as error:
                certain |= "expected after" in str(error)  # else it may be closed further on
                wrong += 1
                continue
            if any(cell[:1] == '"' in value for cell, value in zip(cells, values, strict=False)):
                return False
            right += any(cell[:1] == '"' for cell in cells)
    return certain and wrong > right


def has_row_names(rows: Sequence[Sequence[str]], quoted: bool) -> bool:
    """Whether each row begins with its number, for which R's `write.table` writes no heading.

    It is not so where the first heading may be that of the numbers: then another one is missing.

    Args:
        rows: The header, and some rows.
        quoted: Whether these numbers stand in quotes, as text does: then a cell too many is no
            piece of text that would need them.
    """
    header, *others = rows
    numbers = [row[0] for row in others if row]
    first = column_field(header[0]) if header else None
    return (
        quoted
        and first is not None
        and first[0].name in _NO_NUMBERS
        and len(others) > 1
        and all(len(row) == len(header) + 1 for row in others)
        and any(row[-1] for row in others)
        and numbers == [str(number) for number in range(1, len(others) + 1)]
    )


def lacks_empty_cells(length: int, width: int, beside: Iterable[int]) -> bool:
    """Whether a short row is only without the empty cells at its end: Excel writes some rows so.

    A row that a line end breaks in two has its other half beside it.

    Args:
        length: How many cells the row has.
        width: How many columns there are.
        beside: The lengths of the rows before and after it.
    """
    return all(other >= width or other + length > width + 1 for other in beside)
