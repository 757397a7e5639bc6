"""Tag a pandas table: `python infer/examples/pandas_column.py artifacts/bundle in.csv out.csv`."""

from __future__ import annotations

import sys

import pandas as pd

from studytag import Predictor

bundle, source, target = sys.argv[1:]
table = pd.read_csv(source)
records = table[["title", "abstract"]].to_dict("records")
with Predictor.from_pretrained(bundle) as predictor:
    probabilities = predictor.predict_proba(records)
    table[predictor.labels] = probabilities >= predictor.thresholds
table.to_csv(target, index=False)
