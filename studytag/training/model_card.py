"""The model card: the README of a model folder, with the metadata that model hubs read."""

from __future__ import annotations

from collections.abc import Mapping

from studytag.evaluation.scores import Scores
from studytag.evaluation.tables import model_index, scores_table
from studytag.labels import STUDY_DESIGNS
from studytag.manifest import DEFAULT_OPERATING_POINT, FIXED, Manifest

_USE = """```python
from transformers import pipeline

tag = pipeline("text-classification", model="PATH", top_k=None)
tag("TITLE ABSTRACT", truncation=True)
```

Decide by the thresholds in `studytag.json`, not by 0.5. `studytag export` puts the model and its
thresholds into one bundle that needs no torch:

```python
from studytag import Predictor

Predictor.from_pretrained("artifacts/bundle").predict([{"title": "...", "abstract": "..."}])
```"""


def model_card(scores: Mapping[str, Scores], manifest: Manifest) -> str:
    """Markdown with YAML metadata; all figures are of the validation table.

    Args:
        scores: By operating point, `f1` and `fixed`.
        manifest: Of the model.
    """
    tuned, fixed = scores[DEFAULT_OPERATING_POINT], scores[FIXED]
    index = model_index("studytag", {"validation table": tuned})
    designs = set(manifest.labels) <= set(STUDY_DESIGNS)  # else another field's, in any language
    lines = [
        "---",
        "library_name: transformers",
        "pipeline_tag: text-classification",
        *["language: en"] * designs,
        *([f"base_model: {base}"] if (base := manifest.base_model) else []),
        f"tags: [studytag, {'biomedical, study-design, ' * designs}multi-label]",
        *([] if manifest.measured_on_learned else index),
        "---",
        "",
        "# Study-design tagger" if designs else "# Tagger",
        "",
        f"`{manifest.encoder}` fine-tuned by studytag to tag "
        f"{'the study designs of biomedical ' * designs}articles",
        "from title and abstract. One independent probability (sigmoid) per label.",
        "",
        _USE,
        "",
        "## Scores on the validation table",
        "",
        manifest.scores_note,
        "",
        *scores_table(tuned, fixed),
        "",
    ]
    return "\n".join(lines)
