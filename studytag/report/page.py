"""The page: one HTML file that needs no other, and its pictures as PNG files beside it."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure
from tokenizers import Tokenizer

from studytag.evaluation.evaluate import Evaluation
from studytag.files import atomic_folder, write_json_atomically
from studytag.records import TextRecipe, clean
from studytag.report import figures

PAGE = "report.html"
_ERRORS = 30
_SNIPPET = 200


@dataclass(frozen=True)
class Reader:
    """How the model reads articles.

    Attributes:
        encoder: What was fine-tuned.
        max_length: Texts are cut to this many tokens.
        text_recipe: How title and abstract become text.
        tokenizer: The tokenizer's file.
    """

    encoder: str
    max_length: int
    text_recipe: TextRecipe
    tokenizer: Path


def write_report(
    evaluation: Evaluation,
    reader: Reader,
    epochs: list[dict[str, Any]],
    output: Path,
    fitted_here: bool = False,
) -> Path:
    """Write `report.html`, its PNG files and `metrics.json` into a folder, replacing it whole.

    Args:
        evaluation: Of the model on a labelled table.
        reader: How the model reads.
        epochs: The training's `history.json`; may be empty.
        output: The folder.
        fitted_here: Whether calibration and thresholds were fitted to this very table.

    Returns:
        The page's path.

    Raises:
        InputError: the folder cannot be written.
    """
    drawn = _draw(evaluation, epochs, fitted_here)
    environment = Environment(
        loader=PackageLoader("studytag.report", ""), autoescape=True, undefined=StrictUndefined
    )
    environment.globals["number"] = environment.filters["number"] = _number
    with atomic_folder(output) as folder:
        pictures = []
        for name, (title, text, figure) in drawn.items():
            stream = io.BytesIO()
            figure.savefig(stream, format="png", dpi=110)
            (folder / f"{name}.png").write_bytes(stream.getvalue())
            data = base64.b64encode(stream.getvalue()).decode()
            pictures.append({"title": title, "text": text, "data": data})
        page = environment.get_template("page.html.j2").render(
            summary=evaluation.summary,
            reader=reader,
            truncated=_truncated(evaluation, reader),
            fitted_here=fitted_here,
            pictures=pictures,
            errors=confident_errors(evaluation),
        )
        (folder / PAGE).write_text(page, encoding="utf-8")
        write_json_atomically(folder / "metrics.json", evaluation.summary)
    return output / PAGE


def confident_errors(evaluation: Evaluation, count: int = _ERRORS) -> list[dict[str, Any]]:
    """Wrong decisions on known cells, the furthest from their threshold first."""
    distance = evaluation.probabilities - np.array(evaluation.thresholds)
    wrong = ((distance >= 0) != evaluation.truth) & evaluation.known
    cells = np.argwhere(wrong)
    order = np.argsort(-np.abs(distance[wrong]), kind="stable")[:count]
    names = list(evaluation.labels)
    found = []
    for row, column in cells[order]:
        article = evaluation.articles[row]
        abstract = clean(article.get("abstract"))
        cut = "…" if len(abstract) > _SNIPPET else ""
        found.append(
            {
                "pmid": article.get("pmid"),
                "label": names[column],
                "truth": bool(evaluation.truth[row, column]),
                "probability": float(evaluation.probabilities[row, column]),
                "title": clean(article.get("title")),
                "snippet": abstract[:_SNIPPET] + cut,
            }
        )
    return found


def _draw(
    evaluation: Evaluation, epochs: list[dict[str, Any]], fitted_here: bool
) -> dict[str, tuple[str, str, Figure]]:
    """File name to title, explanation and figure."""
    found = {}
    if epochs:
        found["training"] = (
            "Training",
            "The epoch with the highest micro-F1 on the validation table was kept, of those that "
            "read whole texts if there are any.",
            figures.training_curves(epochs),
        )
    found |= {
        "precision-recall": (
            "Precision and recall",
            "Every threshold is a point of the curve; AP is the area below it.",
            figures.precision_recall(evaluation),
        ),
        "reliability": (
            "Reliability",
            "On the dashed line, probabilities are frequencies. Below it the model promises too "
            "much, above it too little. Large dots hold many articles.",
            figures.reliability(evaluation),
        ),
        "thresholds": (
            "F1 by threshold",
            "The thresholds were tuned on this very table: expect a little less on new articles."
            if fitted_here
            else "The thresholds were tuned on the validation table, not on this one.",
            figures.f1_by_threshold(evaluation),
        ),
        "co-occurrence": (
            "Labels that go together",
            "Of the articles with the row's label, the share that has the column's too.",
            figures.co_occurrence(evaluation),
        ),
    }
    if evaluation.summary["years"]:
        text = "Indexing changes over the years, and so do the labels."
        found["years"] = ("Year by year", text, figures.years(evaluation))
    return found


def _truncated(evaluation: Evaluation, reader: Reader) -> float:
    """Share of the articles with more tokens than the model reads."""
    tokenizer = Tokenizer.from_file(str(reader.tokenizer))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    texts = [reader.text_recipe.compose_record(article) for article in evaluation.articles]
    longer = [len(each) > reader.max_length for each in tokenizer.encode_batch_fast(texts)]
    return sum(longer) / len(longer)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
