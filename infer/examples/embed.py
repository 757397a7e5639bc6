"""Tag articles inside your own program: `python infer/examples/embed.py artifacts/bundle`."""

from __future__ import annotations

import sys

from studytag import Predictor

articles = [
    {"title": "Fluoride varnish in preschool children: a randomised controlled trial"},
    {"title": "Zirconia bond strength", "abstract": "Forty crowns were cemented in vitro."},
]

with Predictor(sys.argv[1]) as predictor:
    for article, prediction in zip(articles, predictor.predict_iter(articles), strict=True):
        print(article["title"], prediction.labels)

    # The same articles, wanting few misses rather than few false alarms.
    for prediction in predictor.predict(articles, operating_point="sensitive"):
        print(prediction.labels)
