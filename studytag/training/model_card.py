"""The model card: the README of a model folder, with the metadata that model hubs read."""

from __future__ import annotations

from studytag.bundle import DEFAULT_OPERATING_POINT
from studytag.evaluation.metrics import Scores

_USE = """```python
from transformers import pipeline

tag = pipeline("text-classification", model="PATH", top_k=None)
tag("TITLE ABSTRACT", truncation=True)
```

The decisions belong to the thresholds in `thresholds.json`, not to 0.5. `studytag export` puts
both into one bundle that needs no torch:

```python
from studytag import Predictor

Predictor.from_pretrained("artifacts/bundle").predict([{"title": "...", "abstract": "..."}])
```"""


def model_card(scores: dict[str, Scores], encoder: str) -> str:
    """Markdown with YAML metadata; all figures are of the validation table.

    Args:
        scores: By operating point.
        encoder: What was fine-tuned.
    """
    tuned, fixed = scores[DEFAULT_OPERATING_POINT], scores["fixed"]
    metrics = [
        ("micro-F1", tuned["micro"]["f1"]),
        ("macro-F1", tuned["macro"]["f1"]),
        ("macro average precision", tuned["macro"]["average_precision"]),
    ]
    index = "\n".join(
        f"          - {{type: f1, name: {name}, value: {value:.4f}}}"
        for name, value in metrics
        if value is not None
    )
    lines = [
        "---",
        "library_name: transformers",
        "pipeline_tag: text-classification",
        "language: en",
        "tags: [studytag, biomedical, study-design, multi-label]",
        "model-index:",
        "  - name: studytag",
        "    results:",
        "      - task: {type: text-classification}",
        "        dataset: {type: tabular, name: validation table}",
        "        metrics:",
        index,
        "---",
        "",
        "# Study-design tagger",
        "",
        f"`{encoder}` fine-tuned by studytag to tag the study designs of biomedical articles from",
        "title and abstract. One independent probability (sigmoid) per label.",
        "",
        _USE,
        "",
        "## Scores on the validation table",
        "",
        "Probabilities were calibrated and thresholds tuned on the same table, so expect a little",
        "less elsewhere. Cells whose label is unknown count nowhere.",
        "",
        *scores_table(tuned, fixed),
        "",
    ]
    return "\n".join(lines)


def scores_table(tuned: Scores, fixed: Scores) -> list[str]:
    """Lines of a Markdown table: per label, micro and macro, tuned beside 0.5."""
    lines = [
        "| Label | Support | Threshold | Precision | Recall | F1 | F1 at 0.5 | AP |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, entry in tuned["labels"].items():
        precision = entry["average_precision"]
        lines.append(
            f"| {name} | {entry['support']} | {entry['threshold']:.3f} | {entry['precision']:.3f} "
            f"| {entry['recall']:.3f} | {entry['f1']:.3f} | {fixed['labels'][name]['f1']:.3f} "
            f"| {'–' if precision is None else f'{precision:.3f}'} |"
        )
    for name in ("micro", "macro"):
        entry = tuned[name]
        lines.append(
            f"| **{name}** | | | {entry['precision']:.3f} | {entry['recall']:.3f} "
            f"| {entry['f1']:.3f} | {fixed[name]['f1']:.3f} | |"
        )
    return lines
