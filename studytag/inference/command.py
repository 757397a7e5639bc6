"""`studytag predict` and `python infer`: tag a file, or one article given on the command line."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from dataclasses import asdict

from studytag.bundle import DEFAULT_OPERATING_POINT
from studytag.errors import InputError
from studytag.inference.predictor import Prediction, Predictor
from studytag.inference.stream import predict_file

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.set_defaults(run=run)
    parser.add_argument("input", nargs="?", help="parquet, CSV, TSV, JSONL, RIS, .nbib or XML")
    parser.add_argument("output", nargs="?", help="parquet, CSV, TSV, JSONL or RIS")
    parser.add_argument("--title", help="tag one article instead of a file")
    parser.add_argument("--abstract", help="of the one article")
    parser.add_argument("--json", action="store_true", help="print the one article's tags as JSON")
    parser.add_argument("--bundle", default="artifacts/bundle", help="what export made")
    parser.add_argument(
        "--variant",
        default="auto",
        help="fp32, quantized, or auto: quantized where the processor runs it fast",
    )
    parser.add_argument("--threads", type=int, help="cores to use; all by default")
    parser.add_argument(
        "--operating-point",
        default=DEFAULT_OPERATING_POINT,
        help="micro_f1, label_f1, sensitive, balanced, precise or fixed",
    )
    parser.add_argument("--input-format", help="where the suffix does not say it")
    parser.add_argument("--output-format", help="where the suffix does not say it")


def run(args: argparse.Namespace) -> None:
    """Do what the options say. Rows that cannot be tagged are in the output, with their error.

    Raises:
        StudytagError: an option, a file or the bundle is wrong.
    """
    single = args.title is not None or args.abstract is not None
    if single == (args.input is not None) or (args.output is None) != single:
        raise InputError("give an input and an output file, or --title and/or --abstract")
    with Predictor.from_pretrained(
        args.bundle, args.variant, args.threads, args.operating_point
    ) as predictor:
        if single:
            (prediction,) = predictor.predict([{"title": args.title, "abstract": args.abstract}])
            text = json.dumps(asdict(prediction)) if args.json else _readable(predictor, prediction)
            sys.stdout.write(text + "\n")
            return
        summary = predict_file(
            predictor,
            args.input,
            args.output,
            source_format=args.input_format,
            target_format=args.output_format,
        )
    logger.info(
        "%s: %d rows in %.1f s (%.1f per second), %d could not be tagged",
        args.output,
        summary.rows,
        summary.seconds,
        summary.rows / summary.seconds,
        summary.failed,
    )


def _readable(predictor: Predictor, prediction: Prediction) -> str:
    width = max(map(len, predictor.labels))
    return "\n".join(
        f"{'*' if label in prediction.labels else ' '} {label:{width}}  {probability:.3f}"
        f"  (yes from {threshold:.3f})"
        for (label, probability), threshold in zip(
            prediction.probabilities.items(), predictor.thresholds, strict=True
        )
    )
