"""How to read and write: what callers may choose."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass

from studytag.errors import InputError
from studytag.files.rows import INDICATOR_PREFIX, known_labels
from studytag.records import PREDICTED_COLUMN, Row

PREFIX = "studytag: "
"""Begins our tags among the keywords, unless another prefix is given."""


@dataclass(frozen=True)
class ReadOptions:
    """How to read a file.

    Attributes:
        encoding: Of text, where it is not UTF-8 and not found out rightly.
        refuse_ignored_text: Raise at the end of a file none of whose rows has an abstract while
            a column of text was ignored; else that is only a warning.
        return_errors: Hand out an `UnreadRow` for a row that cannot be read, instead of raising.
        quiet: Say nothing of how columns are understood.
        on_columns: Told the columns of a table, as a row without values, before its first row.
    """

    encoding: str | None = None
    refuse_ignored_text: bool = False
    return_errors: bool = False
    quiet: bool = False
    on_columns: Callable[[Row], None] | None = None


@dataclass(frozen=True)
class WriteOptions:
    """How to write a file.

    Attributes:
        prefix: Stands before a label that becomes a keyword.
        indicators: Labels that get a column of 0 and 1 in tables, as ASReview reads them.
        excel: Write CSV as Excel opens it best: with a byte-order mark, and with an apostrophe
            before text that Excel would compute.
        mixed_as_text: A parquet column whose values no type has in common becomes text, what is no
            text as JSON, instead of an error.

    Raises:
        InputError: the prefix is blank.
    """

    prefix: str = PREFIX
    indicators: tuple[str, ...] = ()
    excel: bool = False
    mixed_as_text: bool = False

    def __post_init__(self) -> None:
        check_prefix(self.prefix)


def check_prefix(prefix: str) -> None:
    """Refuse a prefix that would claim every keyword.

    Raises:
        InputError: it is blank.
    """
    if not prefix.strip():
        raise InputError("the prefix of our tags must not be blank: it tells ours from yours")


def is_tag(keyword: str, prefix: str, labels: Container[str]) -> bool:
    """Whether a keyword is a tag of an earlier run.

    Nobody else begins keywords with `studytag:`. Another prefix may begin a person's keywords too,
    so that only a label which the model has makes it ours.
    """
    label = keyword.removeprefix(prefix)
    return label != keyword and (prefix == PREFIX or label in labels)


def with_tags(columns: Row, options: WriteOptions, *, verbatim: bool) -> Row:
    """A table row's columns with those of 0 and 1: `tag_studytag_RCT`.

    The keywords of a tagged record lose the tags of an earlier run, where it has tags anew.

    Args:
        columns: Of the row.
        options: Of the writer.
        verbatim: Whether the row is of such a table itself, whose cells stay as they are.
    """
    labels, keywords = columns.get(PREDICTED_COLUMN), columns.get("keywords")
    indicators = {
        INDICATOR_PREFIX + label: None if labels is None else int(label in labels)
        for label in options.indicators
    }
    if labels is not None and isinstance(keywords, list) and not verbatim:
        known = known_labels(columns)
        kept = [word for word in keywords if not is_tag(str(word), options.prefix, known)]
        columns = columns | {"keywords": kept}
    return columns | indicators
