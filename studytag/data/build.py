"""`studytag data build`: labelled, deduplicated, split tables out of raw files, in one stream."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from studytag.bundle import sha256
from studytag.data.card import Card
from studytag.data.labelling import RuleSet
from studytag.data.splitting import SPLITS, Splitter, choose, title_key
from studytag.errors import InputError
from studytag.files import atomic_folder, open_writer, read_rows
from studytag.records import COLUMNS, LIST_COLUMNS, Row, clean

logger = logging.getLogger(__name__)

_READABLE = ("*.xml", "*.xml.gz", "*.nbib", "*.parquet", "*.csv", "*.tsv", "*.jsonl", "*.ris")


def build(
    sources: Iterable[Path],
    output: Path,
    rules: RuleSet,
    split_by: str = "auto",
    train_until: int = 2021,
    val_until: int = 2023,
) -> Card:
    """Label, deduplicate and split the articles of `sources` into the folder `output`.

    It gets `train.parquet`, `val.parquet`, `test.parquet`, `excluded.csv`, `manifest.json` and the
    data card `README.md`, and appears complete or not at all. Memory holds one row group and a 16-byte key for each article, not the articles.

    Args:
        sources: Files, or folders whose files are all read in the order of their names.
        output: The folder; one that is there already is replaced.
        rules: Make the labels.
        split_by: `year`, `column`, `hash`, or `auto` (the first of column, year, hash that the
            table has something for).
        train_until: Last year of the training split.
        val_until: Last year of the validation split.

    Raises:
        InputError: a source is missing, unreadable or without a usable article; a row is wrong.
    """
    Splitter(train_until=train_until, val_until=val_until)  # refuses years out of order early on
    if output.exists() and not (output / "manifest.json").is_file() and any(output.iterdir()):
        raise InputError(f"{output} holds other files than built tables; give another --output")
    files = list(_expand(sources))
    card = Card(rules.name, list(rules.labels), [str(file) for file in files])
    with atomic_folder(output) as folder:
        articles = folder / "articles.parquet"
        with open_writer(articles) as writer, open_writer(folder / "excluded.csv") as excluded:
            for row, reason in _articles(files, rules):
                card.read += 1
                if reason is None:
                    writer.write(row)
                else:
                    card.excluded[reason] += 1
                    excluded.write(_excluded_row(row, reason))
                card.any_split |= bool(row.get("split"))
                card.any_year |= row.get("year") is not None
        if card.read == sum(card.excluded.values()):
            raise InputError(f"no usable article in {', '.join(card.sources)}: {card.reasons()}")
        splitter = Splitter(choose(split_by, card.any_split, card.any_year), train_until, val_until)
        _share_out(articles, folder, splitter, card)
        articles.unlink()
        card.split = splitter.describe()
        (folder / "README.md").write_text(card.markdown(), encoding="utf-8")
        manifest = card.to_dict() | {
            "files": {f"{name}.parquet": sha256(folder / f"{name}.parquet") for name in SPLITS}
        }
        text = json.dumps(manifest, indent=2, ensure_ascii=False)
        (folder / "manifest.json").write_text(text + "\n", encoding="utf-8")
    return card


def _expand(sources: Iterable[Path]) -> Iterator[Path]:
    for source in sources:
        if not source.is_dir():
            yield source
            continue
        found = sorted(file for pattern in _READABLE for file in source.glob(pattern))
        if not found:
            raise InputError(f"{source}: no file to read in this folder; known are {_READABLE}")
        yield from found


def _articles(files: Iterable[Path], rules: RuleSet) -> Iterator[tuple[Row, str | None]]:
    """Every article in the table's columns, labelled, and why it is left out, if it is."""
    seen: set[bytes] = set()
    for file in files:
        logger.info("reading %s", file)
        for index, raw in enumerate(read_rows(file), start=1):
            try:
                row = _to_table(raw)
                reason = _duplicate(row, seen)
                if reason is None:
                    row["labels"], row["known"] = rules.apply(row)
                    if not row["labels"] and not rules.keep_unlabelled:
                        reason = "none of the labels"
            except InputError as error:
                raise InputError(
                    f"{file}: row {index} (pmid {raw.get('pmid')}): {error}"
                ) from error
            yield row, reason


def _to_table(raw: Row) -> Row:
    """The table's columns of a raw row, with clean text."""
    row: dict[str, Any] = {name: raw.get(name) for name in COLUMNS}
    row["pmid"] = clean(str(row["pmid"])) if row["pmid"] is not None else None
    for name in ("title", "abstract", "journal", "split"):
        row[name] = clean(row[name])
    for name in LIST_COLUMNS:
        if isinstance(row[name], str):
            raise InputError(f"column {name!r}: expected a list, found {row[name]!r:.60}")
    if row["year"] is not None:
        try:
            row["year"] = int(row["year"])
        except (TypeError, ValueError) as error:
            raise InputError(f"column 'year': {row['year']!r} is not a year") from error
    return row


def _duplicate(row: Row, seen: set[bytes]) -> str | None:
    """Why the row cannot be used, if so; else it is remembered. The first of equals is kept."""
    if not row["title"] and not row["abstract"]:
        return "neither title nor abstract"
    keys = {"same title": f"title:{title_key(row)}"}
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


def _excluded_row(row: Row, reason: str) -> Row:
    return {"reason": reason, "pmid": row["pmid"], "year": row["year"], "title": row["title"]}


def _share_out(articles: Path, folder: Path, splitter: Splitter, card: Card) -> None:
    """Copy every article into the table of its split, counting."""
    with ExitStack() as stack:
        writers = {
            name: stack.enter_context(open_writer(folder / f"{name}.parquet")) for name in SPLITS
        }
        for row in read_rows(articles):
            row["split"] = splitter.split(row)
            writers[row["split"]].write(row)
            card.count(row)
