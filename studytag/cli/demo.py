"""`studytag demo`: a first look at the tags, on invented articles."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from studytag.cli.options import add_predictor_arguments, load_predictor
from studytag.cli.terminal import show
from studytag.demo import run_demo
from studytag.demo.page import TaggedArticle

_TITLE_WIDTH = 62


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.set_defaults(run=run)
    parser.add_argument(
        "--output", type=Path, default=Path("studytag-demo"), help="folder for the demo's files"
    )
    add_predictor_arguments(parser)


def run(options: argparse.Namespace) -> None:
    """Tag the invented articles, print a table, and say which files to look at.

    Raises:
        StudytagError: the bundle or an option is wrong, or the folder cannot be written.
    """
    with load_predictor(options) as predictor:
        files = run_demo(predictor, options.output)
    show(_table(files.articles))
    sys.stdout.write(
        f"\nInvented articles: {files.source}\nThe same, with tags as keywords: {files.tagged}\n"
        f"Every probability, for a browser: {files.page}\n"
    )


def _table(articles: Sequence[TaggedArticle]) -> str:
    lines = []
    for article in articles:
        title = article.title
        if len(title) > _TITLE_WIDTH:
            title = title[: _TITLE_WIDTH - 1] + "…"
        lines.append(f"{title:{_TITLE_WIDTH}}  {', '.join(article.prediction.labels) or '–'}\n")
    return "".join(lines)
