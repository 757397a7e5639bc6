"""`studytag report`: a page about a bundle on a labelled table."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from studytag.bundle import TOKENIZER

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    # Imported here, so that what is missing is told before anything is read.
    from studytag.report import page  # noqa: F401

    parser.add_argument("table", type=Path, help="labelled, such as data/processed/test.parquet")
    parser.add_argument(
        "--bundle", type=Path, default=Path("artifacts/bundle"), help="to report on"
    )
    parser.add_argument(
        "--run",
        dest="training",
        type=Path,
        default=Path("artifacts/model"),
        help="the training run, whose history is drawn if it is there",
    )
    parser.add_argument("--output", type=Path, default=Path("artifacts/report"), help="a folder")
    parser.add_argument("--variant", default="auto", help="quantized, fp32 or auto")
    parser.add_argument("--threads", type=int, help="cores to use (all that are allowed)")
    parser.add_argument("--operating-point", default="micro_f1", help="whose thresholds decide")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Do what the options say.

    Raises:
        StudytagError: the table or the bundle is unusable, or the folder cannot be written.
    """
    from studytag.evaluation.evaluate import evaluate
    from studytag.inference.predictor import Predictor
    from studytag.report.page import Reader, write_report
    from studytag.training.runs import read_history

    with Predictor.from_pretrained(
        options.bundle, options.variant, options.threads, options.operating_point
    ) as predictor:
        evaluation = evaluate(predictor, options.table)
        manifest = predictor.manifest
    reader = Reader(
        manifest.encoder, manifest.max_length, manifest.text_recipe, options.bundle / TOKENIZER
    )
    page = write_report(evaluation, reader, read_history(options.training), options.output)
    logger.info("wrote %s", page)
