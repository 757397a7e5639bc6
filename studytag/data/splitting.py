"""Which split an article belongs to: by its year, by the table's own column, or by a hash."""

from __future__ import annotations

import hashlib
import unicodedata
from dataclasses import dataclass

from studytag.errors import InputError
from studytag.records import Row, clean

SPLITS = ("train", "val", "test")
_ALIASES = {"train": "train", "val": "val", "validation": "val", "dev": "val", "test": "test"}
WAYS = ("auto", "year", "column", "hash")

# Shares of the hash split: bounds of the first and second tenth of the hash's range.
_TEST_SHARE, _VALIDATION_SHARE = 0.1, 0.1


@dataclass(frozen=True)
class Splitter:
    """How rows are shared out.

    Attributes:
        by: `year`, `column` or `hash`; never `auto` (see `choose`).
        train_until: Last year of the training split.
        val_until: Last year of the validation split.

    Raises:
        InputError: `by` is unknown, or the years are not in order.
    """

    by: str = "year"
    train_until: int = 2021
    val_until: int = 2023

    def __post_init__(self) -> None:
        if self.by not in WAYS:
            raise InputError(f"--split-by {self.by!r} is none of {', '.join(WAYS)}")
        if self.train_until >= self.val_until:
            raise InputError(
                f"--train-until {self.train_until} must lie before --val-until {self.val_until}"
            )

    def split(self, row: Row) -> str:
        """The split of one row: `train`, `val` or `test`.

        By year, an article without a year is learned from and never tested on: nothing says that
        it is as recent as the test split. By hash, an article's split depends on its pmid (or
        else its title) alone, so it stays where it is when the table grows.

        Raises:
            InputError: by column, and its value is none of train, val, test.
        """
        if self.by == "column":
            return self._by_column(row)
        if self.by == "hash":
            return self._by_hash(row)
        year = row.get("year")
        if year is None or year <= self.train_until:
            return "train"
        return "val" if year <= self.val_until else "test"

    def describe(self) -> str:
        """One sentence for the data card."""
        return {
            "year": f"By year: train up to {self.train_until} or year missing, validation up to "
            f"{self.val_until}, test after.",
            "column": "By the table's own column `split`.",
            "hash": "By a hash of the pmid, or else of the title (BLAKE2b): "
            f"{_TEST_SHARE:.0%} test, {_VALIDATION_SHARE:.0%} validation, the rest train.",
        }[self.by]

    @staticmethod
    def _by_column(row: Row) -> str:
        value = clean(row.get("split")).lower()
        if value not in _ALIASES:
            raise InputError(
                f"column 'split': {value!r} is none of {', '.join(_ALIASES)}; "
                f"mend it, or give --split-by year or hash"
            )
        return _ALIASES[value]

    @staticmethod
    def _by_hash(row: Row) -> str:
        key = clean(row.get("pmid")) or title_key(row)
        digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
        place = int.from_bytes(digest, "big") / 2**64
        if place < _TEST_SHARE:
            return "test"
        return "val" if place < _TEST_SHARE + _VALIDATION_SHARE else "train"


def choose(way: str, any_split: bool, any_year: bool) -> str:
    """What `auto` means for a table: its column `split` if filled in, else years, else the hash."""
    if way != "auto":
        return way
    return "column" if any_split else "year" if any_year else "hash"


def title_key(row: Row) -> str:
    """The title's letters and digits in lower case; of the abstract where the title has none.

    Two articles with the same key are taken as the same article. Accents are dropped and
    subscripts made plain digits, since sources differ in how they write them.
    """
    return _key(clean(row.get("title"))) or _key(clean(row.get("abstract")))


def _key(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text).casefold()
    return "".join(character for character in plain if character.isalnum())
