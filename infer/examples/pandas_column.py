"""Tag a pandas table: `python infer/examples/pandas_column.py BUNDLE in.csv out.csv`."""

from __future__ import annotations

import sys

import pandas as pd

from studytag import Predictor
from studytag.inference.arrow import tag_table

bundle, source, target = sys.argv[1:]
table = pd.read_csv(source)
with Predictor.from_pretrained(bundle) as predictor:
    tagged = tag_table(table, predictor).to_pandas()
    for label in predictor.labels:
        table[label] = [found is not None and label in found for found in tagged["studytag_labels"]]
table.to_csv(target, index=False)
