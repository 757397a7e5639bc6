"""The page: one HTML file that needs no other, and its pictures as PNG files beside it."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure
from tokenizers import Tokenizer

from studytag.evaluation.evaluate import Evaluation
from studytag.evaluation.tables import interval, number
from studytag.files import atomic_folder, write_json_atomically
from studytag.manifest import TOKENIZER, Manifest
from studytag.records import Row, clean
from studytag.report import figures
from studytag.report.folder import METRICS, PAGE, refuse_foreign_report

_ERRORS = 30
_SNIPPET = 200


def write_report(
    evaluation: Evaluation,
    articles: Sequence[Row],
    manifest: Manifest,
    model: Path,
    epochs: Sequence[figures.Epoch],
    output: Path,
    fitted_here: bool = False,
) -> Path:
    """Write `report.html`, its PNG files and `metrics.json` into a folder, replacing it whole.

    Args:
        evaluation: Of the model on a labelled table.
        articles: The rows of that table, in the order of the evaluation's arrays.
        manifest: Of the model.
        model: The model folder or bundle, for its tokenizer.
        epochs: Of the training; may be empty.
        output: The folder; it may hold an earlier report, and nothing else.
        fitted_here: Whether calibration and thresholds were fitted to this very table.

    Returns:
        The page's path.

    Raises:
        InputError: the folder holds something else, or cannot be written.
    """
    refuse_foreign_report(output)
    drawn = _draw(evaluation, epochs, fitted_here)
    environment = Environment(
        loader=PackageLoader("studytag.report", ""), autoescape=True, undefined=StrictUndefined
    )
    environment.globals["number"] = environment.filters["number"] = number
    environment.globals["interval"] = interval
    with atomic_folder(output) as folder:
        pictures = []
        for name, (title, text, figure) in drawn.items():
            stream = io.BytesIO()
            figure.savefig(stream, format="png", dpi=110)
            (folder / f"{name}.png").write_bytes(stream.getvalue())
            data = base64.b64encode(stream.getvalue()).decode()
            pictures.append({"title": title, "text": text, "data": data})
        page = environment.get_template("page.html.j2").render(
            evaluation=evaluation,
            manifest=manifest,
            truncated=_truncated_share(articles, manifest, model / TOKENIZER),
            fitted_here=fitted_here,
            pictures=pictures,
            errors=confident_errors(evaluation, articles),
        )
        (folder / PAGE).write_text(page, encoding="utf-8")
        write_json_atomically(folder / METRICS, evaluation.to_dict())
    return output / PAGE


@dataclass(frozen=True, slots=True)
class ConfidentError:
    """A wrong decision, for the page."""

    pmid: str | None
    label: str
    truth: bool
    probability: float
    title: str
    snippet: str


def confident_errors(
    evaluation: Evaluation, articles: Sequence[Row], count: int = _ERRORS
) -> list[ConfidentError]:
    """Wrong decisions on known cells, the furthest from their threshold first."""
    labels = evaluation.labels
    decisions = labels.decide(evaluation.probabilities, evaluation.thresholds)
    wrong = (decisions != evaluation.truth) & evaluation.known
    distance = np.abs(evaluation.probabilities - np.array(evaluation.thresholds))[wrong]
    order = np.argsort(-distance, kind="stable")[:count]
    return [
        ConfidentError(
            articles[row].get("pmid"),
            labels.names[column],
            bool(evaluation.truth[row, column]),
            float(evaluation.probabilities[row, column]),
            clean(articles[row].get("title")),
            _snippet(clean(articles[row].get("abstract"))),
        )
        for row, column in np.argwhere(wrong)[order]
    ]


def _snippet(text: str) -> str:
    return text if len(text) <= _SNIPPET else text[:_SNIPPET] + "…"


def _draw(
    evaluation: Evaluation, epochs: Sequence[figures.Epoch], fitted_here: bool
) -> dict[str, tuple[str, str, Figure]]:
    """File name to title, explanation and figure."""
    pictures = {}
    if epochs:
        pictures["training"] = (
            "Training",
            "The epoch with the highest micro-F1 on the validation table was kept, of those that "
            "read whole texts if there are any.",
            figures.training_curves(epochs),
        )
    pictures |= {
        "precision-recall": (
            "Precision and recall",
            "Every threshold is a point of the curve; AP is the area below it.",
            figures.precision_recall(evaluation),
        ),
        "reliability": (
            "Reliability",
            "On the dashed line, probabilities are frequencies. Below it the model is "
            "overconfident, above it underconfident. Bars are 95 % intervals; neighbouring bins "
            f"are merged until each holds {figures.MIN_BIN} articles.",
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
    if evaluation.years:
        text = "Indexing changes over the years, and so do the labels."
        pictures["years"] = ("Year by year", text, figures.years(evaluation))
    return pictures


def _truncated_share(articles: Sequence[Row], manifest: Manifest, tokenizer_file: Path) -> float:
    """The share of the articles with more tokens than the model reads."""
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    texts = manifest.text_recipe.compose_records(articles)
    longer = [len(one) > manifest.max_length for one in tokenizer.encode_batch_fast(texts)]
    return sum(longer) / len(longer)
