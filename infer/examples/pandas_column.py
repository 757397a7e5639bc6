"""Tag a pandas table: `python infer/examples/pandas_column.py artifacts/bundle in.csv out.csv`."""

from __future__ import annotations

import sys

import pandas as pd

from studytag import Predictor

bundle, source, target = sys.argv[1:]
table = pd.read_csv(source)
with Predictor(bundle) as predictor:
    for label in predictor.labels:
        table[label] = False
    for place, prediction in enumerate(predictor.predict_iter(table)):
        table.loc[table.index[place], prediction.labels] = True
table.to_csv(target, index=False)
