"""`config.json` for programs that know nothing of studytag: thresholds beside the label names.

There is no convention for them yet. Ours is the entry `studytag`, with these keys:

- `operating_point`: the default one, `f1`.
- `thresholds`: variant, then operating point, then label to a number.
- `implications`: a label to the labels that it implies.
- `max_length`: tokens, special ones included.

An article has a label where sigmoid(logit) >= threshold, and then every label that this one
implies. The logit is the graph's own: what calibration adds after the graph (`adjustment` in
`studytag.json`) is taken out of the thresholds here. transformers and transformers.js keep the
entry as an attribute of the configuration.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from studytag.documents import read_json
from studytag.evaluation.prevalence import logit
from studytag.inference.model import sigmoid
from studytag.labels import LabelSet
from studytag.manifest import DEFAULT_OPERATING_POINT, Manifest, Variant

CONFIG = "config.json"


def _of_the_graph(labels: LabelSet, variant: Variant, thresholds: Sequence[float]) -> list[float]:
    """Thresholds on the sigmoids of a graph, of which the variant's adjustment makes these."""
    if not variant.adjustment:
        return list(thresholds)
    slope, offset = variant.adjustment.lines(labels)
    before = (logit(np.array(thresholds)) - offset) / slope
    raw: list[float] = sigmoid(before.astype(np.float32)).tolist()
    return raw


def repeat_thresholds(folder: Path, manifest: Manifest) -> None:
    """Write what decides into a bundle's `config.json`; `studytag.json` stays what we read."""
    config = read_json(folder / CONFIG, "export again")
    labels = manifest.labels
    config["studytag"] = {
        "operating_point": DEFAULT_OPERATING_POINT,
        "thresholds": {
            name: {
                point: dict(zip(labels, _of_the_graph(labels, variant, values), strict=True))
                for point, values in variant.thresholds.items()
            }
            for name, variant in manifest.variants.items()
        },
        "implications": {name: list(implied) for name, implied in labels.implications.items()},
        "max_length": manifest.max_length,
    }
    text = json.dumps(config, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / CONFIG).write_text(text + "\n", encoding="utf-8", newline="\n")
