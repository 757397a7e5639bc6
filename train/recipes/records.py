"""Puts the records together that the tagger that ships learns from.

    python train/recipes/records.py FOLDER OUTPUT.parquet [--every]

FOLDER holds pubmed.parquet, pubmed_more.parquet and pubmed_mesh_only.parquet: tables of PubMed
records with `title`, `abstract`, `pub_types`, `mesh_terms`, `source` and, where several sources
belong together, `group`. OUTPUT is what `studytag data build --split-by column` reads: whole groups
are held out for validation, and what cannot be labelled or evaluated on is left out. With --every
nothing is held out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

FILES = ("pubmed.parquet", "pubmed_more.parquet", "pubmed_mesh_only.parquet")

HELD_OUT = frozenset(
    ["s0352bb", "s0ce995", "s1b2e88", "s213fd5", "s37e495", "s480ea7", "s5e3fa", "s71c644"]
    + ["s7472ce", "s7acd94", "s82f318", "s9db57a", "sa1c583", "sad3387", "se384c4"]
)
"""Groups that are kept from a first model, and on which it is judged and given its thresholds."""

COLUMNS = ("pmid", "title", "abstract", "year", "journal", "pub_types", "mesh_terms")


def main() -> None:
    """Read, choose, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--every", action="store_true", help="learn from every article")
    options = parser.parse_args()
    rows = [row for name in FILES for row in pq.read_table(options.folder / name).to_pylist()]
    pq.write_table(pa.Table.from_pylist(chosen(rows, every=options.every)), options.output)


def chosen(rows: list[dict[str, object]], *, every: bool = False) -> list[dict[str, object]]:
    """The articles to build tables from, each with its split; `every`: none is held out."""
    kept = []
    for row in rows:
        # A column that says "none" of a record that was never indexed says nothing.
        types = row["pub_types"] if row.get("has_pt", "source" in row) else None
        headings = row["mesh_terms"] if row.get("has_mesh", True) else None
        group = row.get("group") or row.get("source") or "headings only"
        article = {name: row.get(name) for name in COLUMNS}
        article |= {"pub_types": types or None, "mesh_terms": headings or None, "source": group}
        held_out = group in HELD_OUT or row.get("source") in HELD_OUT
        if held_out and not every:
            # Articles whose lost spaces a heuristic restored are good enough to learn from only.
            if headings and not row.get("repaired"):
                kept.append(article | {"split": "val"})
        elif types or headings:
            kept.append(article | {"split": "train"})
    return kept


if __name__ == "__main__":
    main()
