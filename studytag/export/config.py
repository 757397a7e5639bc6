"""`config.json` for programs that know nothing of studytag: thresholds beside the label names.

There is no convention for them yet. Ours is the entry `studytag`, with these keys:

- `operating_point`: the default one, `f1`.
- `thresholds`: variant, then operating point, then label to a number.
- `implied`: variant, then operating point, then a label to the labels that it brings along, each
  with the number from which on it does.
- `max_length`: tokens, special ones included.

An article has a label where sigmoid(logit) reaches the label's threshold, or where the sigmoid of a
label that brings it reaches the number beside it. That is lower than the other's own threshold
where the implied label has a lower one: an article is a clinical trial with at least the
probability with which it is an RCT. The logit is the graph's own: what calibration adds after the
graph (`adjustment` in `studytag.json`) is taken out of the numbers here. The variant `fast` is left
out: its graph has inputs of ours (`studytag_tokens`). transformers and transformers.js keep the
entry as an attribute of the configuration.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from studytag.documents import read_json
from studytag.evaluation.prevalence import logit
from studytag.inference.model import sigmoid
from studytag.labels import LabelSet, implied_labels
from studytag.manifest import DEFAULT_OPERATING_POINT, FAST, Manifest, Variant

CONFIG = "config.json"


def repeat_thresholds(folder: Path, manifest: Manifest) -> None:
    """Write what decides into a bundle's `config.json`; `studytag.json` stays what we read."""
    config = read_json(folder / CONFIG, "export again")
    labels = manifest.labels
    served = {name: each for name, each in manifest.variants.items() if name != FAST}

    def by_point(numbers: Callable[[LabelSet, Variant, Sequence[float]], object]) -> object:
        return {
            name: {
                point: numbers(labels, variant, thresholds)
                for point, thresholds in variant.thresholds.items()
            }
            for name, variant in served.items()
        }

    config["studytag"] = {
        "operating_point": DEFAULT_OPERATING_POINT,
        "thresholds": by_point(_thresholds),
        "implied": by_point(_implied),
        "max_length": manifest.max_length,
    }
    text = json.dumps(config, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / CONFIG).write_text(text + "\n", encoding="utf-8", newline="\n")


def _thresholds(
    labels: LabelSet, variant: Variant, thresholds: Sequence[float]
) -> dict[str, float]:
    return dict(zip(labels, _of_the_graph(labels, variant, thresholds), strict=True))


def _implied(
    labels: LabelSet, variant: Variant, thresholds: Sequence[float]
) -> dict[str, dict[str, float]]:
    needed = dict(zip(labels, thresholds, strict=True))
    brings = {name: implied_labels(labels.implications, name) for name in labels}

    def number(name: str, other: str) -> float:
        """The lowest threshold on the way from a label to one that it implies."""
        way = [name, other, *(each for each in brings[name] if other in brings[each])]
        lowest = [min(needed[each] for each in way)] * len(labels)
        return _of_the_graph(labels, variant, lowest)[labels.names.index(name)]

    return {
        name: {other: number(name, other) for other in others}
        for name, others in brings.items()
        if others
    }


def _of_the_graph(labels: LabelSet, variant: Variant, thresholds: Sequence[float]) -> list[float]:
    """Thresholds on the sigmoids of a graph, of which the variant's adjustment makes these."""
    if not variant.adjustment:
        return list(thresholds)
    slope, offset = variant.adjustment.lines(labels)
    before = (logit(np.array(thresholds)) - offset) / slope
    raw: list[float] = sigmoid(before.astype(np.float32)).tolist()
    return raw
