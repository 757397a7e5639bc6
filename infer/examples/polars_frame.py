"""Tag with Polars: `python infer/examples/polars_frame.py BUNDLE in.parquet out.parquet`."""

from __future__ import annotations

import sys

import polars as pl

from studytag import Predictor
from studytag.inference.arrow import tag_table

bundle, source, target = sys.argv[1:]
with Predictor.from_pretrained(bundle) as predictor:
    tagged = pl.from_arrow(tag_table(pl.read_parquet(source), predictor))
tagged.write_parquet(target)
print(tagged.select(pl.col("studytag_labels").explode().value_counts(sort=True)))
