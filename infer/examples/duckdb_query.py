"""Tag with DuckDB: `python infer/examples/duckdb_query.py BUNDLE in.parquet out.parquet`.

DuckDB reads, selects and writes, and streams record batches in between: constant memory.
"""

from __future__ import annotations

import sys

import duckdb
import pyarrow as pa

from studytag import Predictor
from studytag.inference.arrow import tag_batches, tagged_schema

bundle, source, target = sys.argv[1:]
# A connection of its own: it reads while the other one writes.
articles = duckdb.connect().read_parquet(source).select("pmid, title, abstract")
rows = articles.to_arrow_reader(10_000)
with Predictor.from_pretrained(bundle) as predictor:
    tagged = pa.RecordBatchReader.from_batches(
        tagged_schema(rows.schema, predictor.labels), tag_batches(rows, predictor)
    )
    duckdb.from_arrow(tagged).write_parquet(target)

trials = duckdb.read_parquet(target).filter("list_contains(studytag_labels, 'RCT')")
print(len(trials), "articles are tagged RCT")
