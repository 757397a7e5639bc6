"""`config.json` for programs that know nothing of studytag: thresholds beside the label names.

There is no convention for them yet. Ours is the entry `studytag`, with these keys:

- `operating_point`: the default one, `f1`.
- `thresholds`: variant, then operating point, then label to a number.
- `implications`: a label to the labels that it implies.
- `max_length`: tokens, special ones included.

An article has a label where sigmoid(logit) >= threshold, and then every label that this one
implies. transformers and transformers.js keep the entry as an attribute of the configuration.
"""

from __future__ import annotations

import json
from pathlib import Path

from studytag.documents import read_json
from studytag.manifest import DEFAULT_OPERATING_POINT, Manifest

CONFIG = "config.json"


def repeat_thresholds(folder: Path, manifest: Manifest) -> None:
    """Write what decides into a bundle's `config.json`; `studytag.json` stays what we read."""
    config = read_json(folder / CONFIG, "export again")
    labels = manifest.labels
    config["studytag"] = {
        "operating_point": DEFAULT_OPERATING_POINT,
        "thresholds": {
            name: {
                point: dict(zip(labels, values, strict=True))
                for point, values in variant.thresholds.items()
            }
            for name, variant in manifest.variants.items()
        },
        "implications": {name: list(implied) for name, implied in labels.implications.items()},
        "max_length": manifest.max_length,
    }
    text = json.dumps(config, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / CONFIG).write_text(text + "\n", encoding="utf-8", newline="\n")
