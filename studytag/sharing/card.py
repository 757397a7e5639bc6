"""The model card of a bundle: what it tags, how well, and how to load it."""

from __future__ import annotations

from collections.abc import Iterator

from studytag.evaluation.scores import Scores
from studytag.evaluation.tables import model_index, scores_table
from studytag.inference.sources import HUB
from studytag.manifest import DEFAULT_OPERATING_POINT, FIXED, Manifest


def hub_card(name: str, manifest: Manifest, license: str | None = None) -> str:
    """Markdown with the metadata that the Hub reads; all figures are of the validation table.

    Args:
        name: `organisation/name`.
        manifest: Of the bundle.
        license: The Hub's identifier of the weights' licence, such as `cc-by-4.0`.
    """
    usage = (
        f'from studytag import Predictor\n\npredictor = Predictor.from_pretrained("{HUB}{name}")'
    )
    title = name.split("/")[-1]
    tables = {f"validation table, {variant}": scores for variant, scores in _scores(manifest)}
    lines = [
        "---",
        "library_name: studytag",
        "pipeline_tag: text-classification",
        # transformers.js: the Hub's filter for models that load in it.
        "tags: [studytag, onnx, transformers.js, multi-label]",
        *([f"license: {license}"] if license else []),
        *([f"base_model: {base}"] if (base := manifest.base_model) else []),
        *([] if manifest.measured_on_learned else model_index(title, tables)),
        "---",
        "",
        card_text(title, manifest, "`pip install 'studytag[hub]'`, then:", usage),
    ]
    return "\n".join(lines)


def card_text(title: str, manifest: Manifest, install: str, usage: str) -> str:
    """The card without metadata.

    Args:
        title: Of the page.
        manifest: Of the bundle.
        install: A sentence on how to install it.
        usage: Python that makes `predictor`.
    """
    lines = [
        f"# {title}",
        "",
        f"`{manifest.encoder}` fine-tuned by studytag to tag articles from title and abstract.",
        "One independent probability (sigmoid) per label, and thresholds that decide:",
        "",
        " ".join(f"`{label}`" for label in manifest.labels),
        "",
        install,
        "",
        f"```python\n{usage}",
        'predictor.predict({"title": "...", "abstract": "..."})\n```',
        "",
        "`config.json` repeats the thresholds under `studytag`, for programs without studytag.",
        "",
        "## Scores on the validation table",
        "",
        manifest.scores_note,
    ]
    for variant, scores in _scores(manifest):
        lines += ["", f"### {variant}", ""]
        lines += scores_table(scores, manifest.variants[variant].scores.get(FIXED, scores))
    return "\n".join([*lines, ""])


def _scores(manifest: Manifest) -> Iterator[tuple[str, Scores]]:
    """Each variant that has been scored, at the default operating point."""
    for name, variant in manifest.variants.items():
        if DEFAULT_OPERATING_POINT in variant.scores:
            yield name, variant.scores[DEFAULT_OPERATING_POINT]
