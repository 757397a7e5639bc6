"""Rows out of tables, whatever the columns are called and whichever container they come in."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from studytag.errors import InputError
from studytag.files.fields import (
    BY_NAME,
    CANONICAL,
    MODEL_FIELDS,
    column_field,
    column_key,
    derived_columns,
)
from studytag.files.rows import (
    Origin,
    SourceRow,
    TableLayout,
    UnreadRow,
    blank_row,
    refuse_many_columns,
)
from studytag.files.values import (
    LISTS,
    first_year,
    missing,
    model_text,
    named_pmid,
    noted_pmid,
    says_nothing,
    to_list,
    to_pmid,
    to_year,
    whole_number,
)
from studytag.files.watch import TextWatch
from studytag.records import PREDICTED_COLUMN, Row

_YEARS = 10_000
_NOWHERE: frozenset[str] = frozenset()
STATED_LISTS = ("labels", "known")
"""Of these `[]` is an answer, and a blank cell is none; what is no list is refused."""


def unique_names(header: Sequence[str]) -> list[str]:
    """Column names kept apart: `Notes`, `Notes_2`; `column_3` for one without a name."""
    taken = set(header)
    used: set[str] = set()
    counts: dict[str, int] = {}
    names = []
    for position, name in enumerate(header, 1):
        base = name if name.strip() else f"column_{position}"
        candidate = base
        if base in used or (base != name and base in taken):
            number = counts.get(base, 1)
            while True:
                number += 1
                candidate = f"{base}_{number}"
                if candidate not in used and candidate not in taken:
                    break
            counts[base] = number
        used.add(candidate)
        names.append(candidate)
    return names


class Table:
    """Makes rows of a table's cells: canonical columns first filled, the others as they are.

    Args:
        path: The file.
        header: The column names as they stand in the file.
        watch: Hears which columns feed what, and follows the rows.
        format: Name of the format.
        partial: Whether a table without title and abstract is accepted.
        layout: Further attributes of the `TableLayout`.

    Attributes:
        layout: How the file is laid out.
        reach: How many cells of a row hold all that the model may read.

    Raises:
        InputError: no column holds titles or abstracts.
    """

    def __init__(
        self,
        path: Path,
        header: Sequence[str],
        watch: TextWatch,
        format: str,
        *,
        partial: bool = False,
        **layout: Any,
    ) -> None:
        self._watch = watch
        refuse_many_columns(path, len(header), "give a table with an article in each row")
        names = unique_names(header)
        self._sources = _sources(header)
        if not partial and not {*MODEL_FIELDS} & self._sources.keys():
            found = ", ".join(repr(name[:40]) for name in header[:20]) or "no column"
            raise InputError(
                f"{path}: needs a column 'title' or 'abstract', found {found}; rename a column"
            )
        views = list(names)
        for canonical, positions in self._sources.items():
            views[positions[0]] = canonical
        if {"C1", "UT"} <= set(names):  # Web of Science; elsewhere C1 is a custom field
            views[names.index("C1")] = "author_address"
        if len(set(views)) < len(views):  # `Title` made title beside another column of that name
            views = unique_names(views)
        self._derived = _derivations(header, views, self._sources)
        self._lists = [p for p, view in enumerate(views) if view == PREDICTED_COLUMN]
        feeding = {p for name in MODEL_FIELDS for p in self._sources.get(name, ())}
        self.reach = max(feeding, default=-1) + 1
        self._ignored = [
            (p, name)
            for p, name in enumerate(names)
            if p not in feeding and _may_hold_text(header[p])
        ]
        self.layout = TableLayout(
            format, header=tuple(header), names=tuple(names), views=tuple(views), **layout
        )
        watch.feeds({name: [names[p] for p in found] for name, found in self._sources.items()})
        if watch.on_columns is not None:
            watch.on_columns(blank_row(self.layout, self.layout.views))

    def row(self, cells: Sequence[Any], where: str) -> SourceRow:
        """The row of one line of cells.

        Args:
            cells: One for each column.
            where: File and line, to begin a message with.

        Raises:
            InputError: `labels` or `known` hold neither a list nor text.
        """
        values = {
            view: None if cell is None or cell == "" or missing(cell) else cell
            for view, cell in zip(self.layout.views, cells, strict=True)
        }
        raw: dict[str, Any] = {}
        elsewhere: list[str] = []
        for name, positions in self._sources.items():
            chosen = positions[0]
            if len(positions) > 1 and says_nothing(cells[chosen]):
                chosen = next((p for p in positions if not says_nothing(cells[p])), chosen)
            cell = cells[chosen]
            value = values[name] = self._convert(name, cell, where)
            if chosen != positions[0]:
                elsewhere.append(name)
            elif value is not cell:
                if isinstance(cell, dict | list):
                    elsewhere.append(name)
                elif _altered(name, cell, value):
                    raw[name] = cell
        for position in self._lists:
            cell = cells[position]
            values[self.layout.views[position]] = None if missing(cell) else to_list(cell)
        if self._derived:
            elsewhere += self._derive(values, raw, cells)
        if self._watch.watching:
            self._watch.row(values, ((name, cells[p]) for p, name in self._ignored))
        return SourceRow(
            values, Origin(self.layout, cells, values, raw, frozenset(elsewhere) or _NOWHERE)
        )

    def _derive(self, values: Row, raw: Row, cells: Sequence[Any]) -> Iterator[str]:
        """Fill pmid and year from other columns; yields those that have a column of their own."""
        for name, sources in self._derived.items():
            if values.get(name):
                continue
            found = _derive(name, ((cells[p], key) for p, key in sources))
            if found is not None:
                if name in values and name not in raw:
                    yield name
                values[name] = found

    def row_or_error(self, cells: Sequence[Any], where: str, return_errors: bool) -> SourceRow:
        """As `row`; or, where that is wanted, an `UnreadRow` instead of the error."""
        try:
            return self.row(cells, where)
        except InputError as error:
            if not return_errors:
                raise
            return self.unread(cells, str(error))

    def unread(self, cells: Sequence[Any], reason: str) -> UnreadRow:
        """A row that cannot be read, with its cells as they are, empty where there are too few."""
        width = len(self.layout.views)
        padded = (*cells[:width], *[""] * (width - len(cells)))
        values = {
            view: None if missing(cell) or cell == "" else cell
            for view, cell in zip(self.layout.views, padded, strict=True)
        }
        return UnreadRow(values, Origin(self.layout, padded, dict(values)), reason)

    def _convert(self, name: str, cell: Any, where: str) -> Any:
        silent = says_nothing(cell) if name in STATED_LISTS else missing(cell)
        if cell is None or (name in LISTS and silent):
            return None  # not the same as an empty list: nothing is said
        if type(cell) is list and name in LISTS:
            return cell
        if type(cell) is int and name == "year" and 0 < cell < _YEARS:
            return cell
        value = _CONVERT[name](cell)
        if name == "year" and value is None and not says_nothing(cell):
            self._watch.odd(name, cell, where)
        if value is None and name in LISTS:
            if name in STATED_LISTS:
                raise InputError(
                    f"{where}: column {name!r} holds {cell!r:.40}; write a list of texts"
                )
            self._watch.odd(name, cell, where)
            return []
        return value


def _sources(header: Sequence[str]) -> dict[str, list[int]]:
    """The positions of the columns that hold each canonical field, best first."""
    ranked: dict[str, list[tuple[int, int]]] = {}
    for position, name in enumerate(header):
        found = column_field(name)
        if found and found[0].name in CANONICAL:
            ranked.setdefault(found[0].name, []).append((found[1], position))
    return {
        name: [position for _, position in sorted(ranked[name])]
        for name in CANONICAL
        if name in ranked
    }


def _derivations(
    header: Sequence[str], views: Sequence[str], sources: dict[str, list[int]]
) -> dict[str, list[tuple[int, str]]]:
    """The positions and keys of the columns that may tell a pmid or a year, best first."""
    keys: dict[str, int] = {}
    for position, name in enumerate(header):
        keys.setdefault(column_key(name), position)
    found: dict[str, list[tuple[int, str]]] = {}
    for name in ("pmid", "year"):
        wanted = derived_columns(BY_NAME[name])
        positions = [(keys[key], key) for key in wanted if key in keys]
        if positions and (name in sources or name not in views):
            found[name] = positions
    return found


def _may_hold_text(name: str) -> bool:
    found = column_field(name)
    return found is None or found[0].name in ("notes", "label")


def _derive(name: str, cells: Iterable[tuple[Any, str]]) -> Any:
    if name == "year":
        return first_year(*(cell for cell, _ in cells))
    for cell, key in cells:
        if isinstance(cell, list):
            cell = " ".join(map(str, cell))
        elif isinstance(cell, dict):
            cell = " ".join(f"{key}:{value}" for key, value in cell.items())
        pmid_in = noted_pmid if key in ("notes", "note", "extra") else named_pmid
        if isinstance(cell, str) and (pmid := pmid_in(cell)):
            return pmid
    return None


def _to_text(cell: Any) -> Any:
    if isinstance(cell, list) and cell and all(isinstance(part, str) for part in cell):
        cell = " ".join(cell)  # Crossref
    elif isinstance(cell, dict):
        cell = _from_positions(cell)
    elif isinstance(cell, str) and cell.startswith('{"') and cell.endswith("]}"):
        with suppress(ValueError):  # the same in a cell of text
            cell = _from_positions(json.loads(cell))
    return None if says_nothing(cell) else model_text(cell)


def _from_positions(words: dict[str, Any]) -> Any:
    """OpenAlex gives an abstract as the positions of its words."""
    words = {word: found for word, found in words.items() if found is not None}  # of parquet
    if not words or not all(isinstance(found, list) for found in words.values()):
        return words
    placed = [(place, word) for word, places in words.items() for place in places]
    try:
        return " ".join(word for _, word in sorted(placed))
    except TypeError:
        return words


def _plain(cell: Any) -> Any:
    return None if says_nothing(cell) else cell


_CONVERT: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(CANONICAL, _plain),
    **dict.fromkeys(MODEL_FIELDS, _to_text),
    **{name: to_list for name in CANONICAL if name in LISTS},
    "pmid": to_pmid,
    "year": to_year,
}


def _altered(name: str, cell: Any, value: Any) -> bool:
    """Whether a cell says more than the value that was made of it."""
    if says_nothing(cell):
        return isinstance(cell, str) and cell != ""
    if name in LISTS:
        return not isinstance(cell, str | list | tuple)
    if name in ("year", "pmid") and isinstance(cell, str):
        text = cell.strip()
        return text != str(value) and not (
            text.removesuffix("0").rstrip("0").removesuffix(".") == str(value) and "." in text
        )
    if name in ("year", "pmid"):
        return not isinstance(cell, int | float) or whole_number(cell) != str(value)
    return bool(value != cell)
