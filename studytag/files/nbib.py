"""PubMed's MEDLINE format (`.nbib`), as saved by "Send to: Citation manager"."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from studytag.errors import InputError, missing_dependency
from studytag.files.columns import first_text, first_year
from studytag.files.streams import text_lines
from studytag.records import Row


def read(path: Path) -> Iterator[Row]:
    """The records of the file, in the columns that PubMed XML gives.

    Raises:
        InputError: the file holds no record, or something that is none.
    """
    parse = _medline().parse
    count = 0
    try:
        for count, record in enumerate(parse(text_lines(path)), 1):
            if not {"PMID", "TI", "AB"} & record.keys():
                raise _foreign(path, count)
            yield _row(record)
    except (KeyError, IndexError) as error:  # a continuation line with nothing to continue
        raise _foreign(path, count + 1) from error
    if not count:
        raise InputError(f"{path}: no record in it; save it from PubMed in PubMed format")


def _foreign(path: Path, number: int) -> InputError:
    return InputError(
        f"{path}: record {number} has no PMID, TI or AB line; save it from PubMed in PubMed format"
    )


def _row(record: Mapping[str, Any]) -> Row:
    published = str(record.get("DEP", ""))[:4]  # 20200131
    return {
        "pmid": first_text(record.get("PMID")),
        "title": first_text(*(record.get(tag) for tag in ("TI", "TT")), *record.get("BTI", [])),
        "abstract": first_text(record.get("AB")),
        "year": first_year(record.get("DP"), published, record.get("EDAT")),
        "journal": first_text(record.get("JT"), record.get("TA")),
        "pub_types": list(record.get("PT", [])),
        "mesh_terms": _descriptors(record.get("MH", [])),
        "language": first_text(*record.get("LA", [])),
    }


def _descriptors(headings: Iterable[str]) -> list[str]:
    """`*Cells, Cultured/drug effects` names the descriptor `Cells, Cultured`, once."""
    names = (heading.partition("/")[0].strip().lstrip("*") for heading in headings)
    return list(dict.fromkeys(name for name in names if name))


def _medline() -> Any:
    try:
        from Bio import Medline
    except ImportError as error:
        raise missing_dependency("biopython", "files") from error
    return Medline
