"""One article: the columns of a table of articles, and the text a model reads of it.

Training, export and serving all call `TextRecipe.compose`, so that a model never meets a text
made in another way than the ones it learned from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from studytag.errors import BundleError, InputError

if TYPE_CHECKING:
    import pyarrow as pa

Row = dict[str, Any]
"""One row of a table: column name to value, with whatever extra columns the file brought."""

PREDICTED_COLUMN = "studytag_labels"
"""Where a tagged file holds the labels that were predicted; `labels` are those that were given."""

LIST_COLUMNS = ("pub_types", "mesh_terms", "labels", "known")
ARTICLE_COLUMNS = ("pmid", "title", "abstract", "year", "journal")
"""What every record of an article says, or leaves empty."""

COLUMNS = (
    *ARTICLE_COLUMNS,
    *LIST_COLUMNS,
    *("split", "source"),
)


def probability_column(label: str) -> str:
    """Where a tagged file holds a label's probability."""
    return f"p_{label}"


def place_of(number: int, row: Mapping[str, Any], kind: str = "row") -> str:
    """What a message calls a row: its number, which counts from 1, and its pmid if it has one."""
    return f"{kind} {number} (pmid {row['pmid']})" if row.get("pmid") else f"{kind} {number}"


def table_schema() -> pa.Schema:
    """The arrow schema of a table of articles (what `studytag data build` writes)."""
    import pyarrow as pa

    types = {name: pa.list_(pa.string()) for name in LIST_COLUMNS} | {"year": pa.int32()}
    return pa.schema([(name, types.get(name, pa.string())) for name in COLUMNS])


def clean(value: object) -> str:
    """`value` as text with runs of white space made one space; None, NaN and NA are empty.

    Raises:
        InputError: the value is not text.
    """
    if isinstance(value, str):
        return " ".join(value.split())
    if value is None or str(value) in ("nan", "<NA>"):  # what pandas makes of a missing cell
        return ""
    raise InputError(f"expected text, found {type(value).__name__} {value!r:.40}")


@dataclass(frozen=True)
class TextRecipe:
    """How a title and an abstract become the text that is tokenised.

    Publication types, MeSH headings and the year never enter the text: the labels are derived
    from the first two, and the test split is later in time than the training split.

    Attributes:
        name: Identifies the procedure; a bundle made with another one is refused.
        separator: Stands between title and abstract.
        max_chars: The text is cut after this many characters; None leaves the cutting to the
            tokenizer's `max_length`.
    """

    name: str = "title-abstract-v1"
    separator: str = " "
    max_chars: int | None = None

    def compose(self, title: object, abstract: object) -> str:
        """The text of one article.

        Raises:
            InputError: both parts are empty, or one is not text.
        """
        parts = [part for part in (clean(title), clean(abstract)) if part]
        if not parts:
            raise InputError("neither title nor abstract has any text; give at least one")
        return self.separator.join(parts)[: self.max_chars]

    def compose_record(self, record: Mapping[str, Any] | str) -> str:
        """The text of a mapping with `title` and/or `abstract`, or of a ready-made string.

        Raises:
            InputError: as `compose`; or `record` is neither a mapping nor a string.
        """
        if isinstance(record, str):
            return self.compose(record, None)
        if not isinstance(record, Mapping):
            raise InputError(
                f"a record is a string or a mapping with 'title' and 'abstract', "
                f"not {type(record).__name__}"
            )
        return self.compose(record.get("title"), record.get("abstract"))

    def compose_records(self, records: Iterable[Mapping[str, Any] | str]) -> list[str]:
        """The texts of many records.

        Raises:
            InputError: as `compose_record`.
        """
        return [self.compose_record(record) for record in records]

    def to_dict(self) -> dict[str, Any]:
        """What the manifest stores."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> TextRecipe:
        """Read the manifest's entry.

        Raises:
            BundleError: the recipe is not one that this version of the code can follow.
        """
        try:
            recipe = cls(**stored)
        except TypeError as error:
            raise BundleError(f"text recipe {stored!r} is unknown; update studytag") from error
        if recipe.name != cls.name:
            raise BundleError(f"text recipe {recipe.name!r} is unknown; update studytag")
        return recipe
