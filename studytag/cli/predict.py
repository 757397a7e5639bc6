"""`studytag predict` and `python infer`: tag a file, or one article given on the command line."""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from studytag.cli.options import add_predictor_arguments, load_predictor
from studytag.errors import InputError
from studytag.inference.files import FileSummary, predict_file
from studytag.inference.predictor import Prediction, Predictor

logger = logging.getLogger(__name__)

STANDARD_STREAM = "-"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.set_defaults(run=run)
    parser.add_argument("input", nargs="?", help="a file of articles; - reads standard input")
    parser.add_argument("output", nargs="?", help="the tagged file; - writes standard output")
    parser.add_argument("--title", help="tag one article instead of a file")
    parser.add_argument("--abstract", help="of the one article")
    parser.add_argument("--json", action="store_true", help="print the one article's tags as JSON")
    parser.add_argument("--input-format", metavar="F", help="where the suffix does not say it")
    parser.add_argument("--output-format", metavar="F", help="where the suffix does not say it")
    parser.add_argument("--quiet", action="store_true", help="no progress bar, no summary")
    add_predictor_arguments(parser)


def run(options: argparse.Namespace) -> None:
    """Do what the options say. Rows that cannot be tagged are in the output, with their error.

    Raises:
        StudytagError: an option, a file or the bundle is wrong.
    """
    single = options.title is not None or options.abstract is not None
    if single == (options.input is not None) or (options.output is None) != single:
        raise InputError("give an input and an output file, or --title and/or --abstract")
    if options.quiet:
        logging.getLogger("studytag").setLevel(logging.WARNING)
    with load_predictor(options) as predictor:
        if single:
            (prediction,) = predictor.predict(
                {"title": options.title, "abstract": options.abstract}
            )
            text = (
                json.dumps(asdict(prediction), ensure_ascii=False)
                if options.json
                else _readable(predictor, prediction)
            )
            sys.stdout.write(text + "\n")
        else:
            _report(options.output, _predict_file(options, predictor))


def _predict_file(options: argparse.Namespace, predictor: Predictor) -> FileSummary:
    with (
        _input_file(options.input, options.input_format) as source,
        _output_file(options.output, options.output_format) as target,
    ):
        return predict_file(
            predictor,
            source,
            target,
            source_format=options.input_format,
            target_format=options.output_format,
            progress=not options.quiet,
        )


def _report(output: str, summary: FileSummary) -> None:
    logger.info(
        "%s: %d rows in %.1f s (%.1f per second), %d could not be tagged",
        "standard output" if output == STANDARD_STREAM else output,
        summary.rows,
        summary.seconds,
        summary.rows / max(summary.seconds, 1e-9),
        summary.failed,
    )


@contextmanager
def _input_file(name: str, format: str | None) -> Iterator[Path]:
    """The input as a file. Standard input is copied first: some formats are read twice."""
    if name != STANDARD_STREAM:
        yield Path(name)
        return
    if format is None:
        raise InputError("standard input has no suffix; name its format with --input-format")
    with TemporaryDirectory(prefix="studytag-") as folder:
        copy = Path(folder, "standard-input")
        with copy.open("wb") as stream:
            shutil.copyfileobj(sys.stdin.buffer, stream)
        yield copy


@contextmanager
def _output_file(name: str, format: str | None) -> Iterator[Path]:
    """The output as a file, copied to standard output once it is complete."""
    if name != STANDARD_STREAM:
        yield Path(name)
        return
    if format is None:
        raise InputError("standard output has no suffix; name its format with --output-format")
    with TemporaryDirectory(prefix="studytag-") as folder:
        result = Path(folder, "standard-output")
        yield result
        with result.open("rb") as stream:
            shutil.copyfileobj(stream, sys.stdout.buffer)


def _readable(predictor: Predictor, prediction: Prediction) -> str:
    width = max(map(len, prediction.probabilities))
    return "\n".join(
        f"{'*' if label in prediction.labels else ' '} {label:{width}}  {probability:.3f}"
        f"  (threshold {predictor.thresholds[label]:.3f})"
        for label, probability in prediction.probabilities.items()
    )
