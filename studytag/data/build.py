"""`studytag data build`: labelled, deduplicated, split tables out of raw files, in one stream."""

from __future__ import annotations

import csv
import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

from studytag.data.card import Card
from studytag.data.corrections import Corrections, read_corrections
from studytag.data.labelling import RuleSet
from studytag.data.splitting import SPLITS, Splitter, choose, title_key
from studytag.errors import InputError
from studytag.files import atomic_folder, open_writer, read_rows, source_files
from studytag.files.fields import warn_of_misspelt_columns
from studytag.hashing import sha256
from studytag.outputs import refuse_loss
from studytag.records import COLUMNS, LIST_COLUMNS, Row, clean, place_of

logger = logging.getLogger(__name__)

_MANIFEST = "manifest.json"
_WRITTEN = {*(f"{name}.parquet" for name in SPLITS), "excluded.csv", _MANIFEST, "README.md"}


def build(
    sources: Iterable[Path],
    output: Path,
    rules: RuleSet,
    split_by: str = "auto",
    train_until: int = 2021,
    val_until: int = 2023,
    corrections: Path | None = None,
) -> Card:
    """Label, deduplicate and split the articles of `sources` into the folder `output`.

    It gets `train.parquet`, `val.parquet`, `test.parquet`, `excluded.csv`, `manifest.json` and the
    data card `README.md`, and appears complete or not at all. Memory holds one row group and
    about 100 bytes for each pmid and title, not the articles.

    Args:
        sources: Files, or folders whose files are all read in the order of their names.
        output: The folder; one that an earlier build wrote is replaced.
        rules: Make the labels.
        split_by: `year`, `column`, `hash`, or `auto` (the first of column, year, hash that the
            table has something for).
        train_until: Last year of the training split.
        val_until: Last year of the validation split.
        corrections: What a person said of labels, over the rules; see `read_corrections`.

    Raises:
        InputError: a source or the corrections are missing or unreadable; a row is wrong; no
            article is usable, or none has a label; `output` holds something else.
    """
    Splitter(split_by, train_until, val_until)  # refuses wrong options before anything is read
    files = [file for source in sources for file in source_files(source)]
    refuse_loss(output, "build", _MANIFEST, _WRITTEN, files)
    corrected = read_corrections(corrections, rules) if corrections else Corrections()
    card = Card(rules, [str(file) for file in files])
    with atomic_folder(output) as folder:
        articles = folder / "articles.parquet"
        _collect(files, rules, corrected, articles, folder / "excluded.csv", card)
        if card.read == sum(card.excluded.values()):
            raise InputError(f"no usable article in {', '.join(card.sources)}: {card.reasons()}")
        splitter = Splitter(choose(split_by, card.any_split, card.any_year), train_until, val_until)
        _share_out(articles, folder, splitter, card)
        articles.unlink()
        if not card.positive:
            raise InputError(
                f"no article has any label of the rule set {rules.name!r}; "
                f"check the columns pub_types, mesh_terms and labels of {', '.join(card.sources)}"
            )
        card.split = splitter.describe()
        (folder / "README.md").write_text(card.markdown(), encoding="utf-8")
        manifest = card.to_dict() | {
            "files": {f"{name}.parquet": sha256(folder / f"{name}.parquet") for name in SPLITS}
        }
        text = json.dumps(manifest, indent=2, ensure_ascii=False)
        (folder / _MANIFEST).write_text(text + "\n", encoding="utf-8")
    return card


def _collect(
    files: Iterable[Path],
    rules: RuleSet,
    corrections: Corrections,
    articles: Path,
    excluded: Path,
    card: Card,
) -> None:
    """Write the articles to keep to one table and the others, with the reason, to a list."""
    with (
        open_writer(articles) as writer,
        open(excluded, "w", encoding="utf-8", newline="") as stream,
    ):
        listing = csv.writer(stream, lineterminator="\n")
        listing.writerow(["reason", "pmid", "year", "title"])
        for row, reason in _articles(files, rules, corrections, card.replaced):
            card.read += 1
            if reason is None:
                writer.write(row)
                card.any_split |= bool(row["split"])
                card.any_year |= row["year"] is not None
            else:
                card.excluded[reason] += 1
                listing.writerow([reason, row["pmid"], row["year"], row["title"]])
    if card.replaced:
        logger.warning(
            "the sources have labels of their own that the rules of %r pass over (%s); to keep "
            "one, give --rules a file that lists it without any evidence",
            *(rules.name, card.replacements()),
        )
    card.corrected = len(corrections.used)
    if unused := corrections.unused():
        logger.warning(
            "corrections of %d pmids that no article has: %s ...", len(unused), unused[0]
        )


def _articles(
    files: Iterable[Path], rules: RuleSet, corrections: Corrections, replaced: Counter[str]
) -> Iterator[tuple[Row, str | None]]:
    """Every article in the table's columns, labelled, and why it is left out, if it is.

    `replaced` counts the labels of the sources' own that the rules pass over.
    """
    seen: set[bytes] = set()
    for file in files:
        logger.info("reading %s", file)
        for index, raw in enumerate(read_rows(file), start=1):
            if index == 1:
                warn_of_misspelt_columns(file, raw)
            try:
                row = _to_table(raw)
                reason = _duplicate(row, seen)
                if reason is None:
                    replaced.update(rules.replaced(row))
                    row["labels"], row["known"] = corrections.apply(row["pmid"], row, rules)
                    if not row["labels"] and not rules.keep_unlabelled:
                        reason = "none of the labels"
            except InputError as error:
                raise InputError(f"{file}: {place_of(index, raw)}: {error}") from error
            yield row, reason


def _to_table(raw: Row) -> Row:
    """The table's columns of a raw row, with clean text."""
    row: Row = {name: raw.get(name) for name in COLUMNS}
    for name, value in row.items():
        try:
            if name in LIST_COLUMNS and value is not None:
                # [""] is what splitting an empty cell leaves: an article without headings.
                row[name] = [text for text in map(clean, value) if text]
            elif name not in (*LIST_COLUMNS, "year"):
                row[name] = clean(value)
        except InputError as error:
            raise InputError(f"column {name!r}: {error}") from error
    row["pmid"] = row["pmid"] or None
    return row


def _duplicate(row: Row, seen: set[bytes]) -> str | None:
    """Why the row cannot be used, if so; else it is remembered. The first of equals is kept."""
    if not (title := title_key(row)):
        return "neither title nor abstract"
    keys = {"same title": f"title:{title}"}
    if row["pmid"]:
        keys = {"same pmid": f"pmid:{row['pmid']}"} | keys
    digests = {
        reason: hashlib.blake2b(key.encode(), digest_size=16).digest()
        for reason, key in keys.items()
    }
    for reason, digest in digests.items():
        if digest in seen:
            return reason
    seen.update(digests.values())
    return None


def _share_out(articles: Path, folder: Path, splitter: Splitter, card: Card) -> None:
    """Copy every article into the table of its split, counting."""
    with ExitStack() as stack:
        writers = {
            name: stack.enter_context(open_writer(folder / f"{name}.parquet")) for name in SPLITS
        }
        for row in read_rows(articles):
            try:
                row["split"] = splitter.split(row)
            except InputError as error:
                name = row["pmid"] or row["title"] or row["abstract"]
                raise InputError(f"article {name!r:.60}: {error}") from error
            writers[row["split"]].write(row)
            card.count(row)
    if empty := [name for name in SPLITS if not card.rows[name]]:
        logger.warning("no article in %s; see --split-by and the years", ", ".join(empty))
