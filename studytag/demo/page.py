"""The page of tagged articles: bars of probability, the threshold as a mark. One HTML file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from studytag.errors import import_extra
from studytag.files import write_text_atomically
from studytag.inference.predictor import Prediction, Predictor


@dataclass(frozen=True)
class TaggedArticle:
    """One article and its tags."""

    title: str
    abstract: str
    prediction: Prediction


def write_page(path: Path, articles: Sequence[TaggedArticle], predictor: Predictor) -> None:
    """Write the page; it needs no other file.

    Raises:
        InputError: the file cannot be written.
        MissingDependencyError: jinja2 is not installed.
    """
    jinja2 = import_extra("jinja2", "report")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("studytag.demo", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    counts = Counter(label for article in articles for label in article.prediction.labels)
    page = environment.get_template("page.html.j2").render(
        articles=articles,
        labels=predictor.labels,
        thresholds=predictor.thresholds,
        counts=counts,
        operating_point=predictor.operating_point,
        variant=predictor.variant,
    )
    write_text_atomically(path, page)
