"""A first look: a few invented articles tagged by the tagger that ships, and a page about them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from studytag.demo.page import TaggedArticle, write_page
from studytag.errors import InputError
from studytag.files import each_notice_once, read_rows
from studytag.inference.files import predict_file
from studytag.inference.predictor import Predictor

ARTICLES = Path(__file__).parent / "articles.ris"
"""Twelve invented records, as a reference manager would export them."""


@dataclass(frozen=True)
class DemoFiles:
    """What `run_demo` wrote.

    Attributes:
        source: The invented records.
        tagged: The same records with tags as keywords.
        page: Every article with its probabilities and thresholds.
        articles: What is on the page.
    """

    source: Path
    tagged: Path
    page: Path
    articles: Sequence[TaggedArticle]


@each_notice_once()
def run_demo(predictor: Predictor, folder: Path) -> DemoFiles:
    """Tag the invented records into `folder`.

    Raises:
        InputError: the folder cannot be written.
        MissingDependencyError: the extras `files` and `report` are not installed.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        source = Path(shutil.copyfile(ARTICLES, folder / ARTICLES.name))
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written ({error.strerror}); choose another place"
        ) from error
    tagged, page = folder / "tagged.ris", folder / "tagged.html"
    predict_file(predictor, source, tagged, progress=False)
    rows = list(read_rows(source))
    articles = [
        TaggedArticle(row["title"], row.get("abstract") or "", prediction)
        for row, prediction in zip(rows, predictor.predict(rows), strict=True)
    ]
    write_page(page, articles, predictor)
    return DemoFiles(source, tagged, page, articles)
