"""`studytag predict` and `python infer`: tag a file, a folder, or one article."""

from __future__ import annotations

import argparse
import json
import logging
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from studytag.cli.options import add_predictor_arguments, load_predictor
from studytag.cli.run_options import (
    add_file_arguments,
    add_run_arguments,
    file_options,
    listener,
    running,
)
from studytag.errors import InputError
from studytag.inference.files import predict_file
from studytag.inference.folder import CLAIM_TIMEOUT, failures, predict_folder
from studytag.inference.predictor import Prediction, Predictor
from studytag.inference.progress import FileSummary

logger = logging.getLogger(__name__)

STANDARD_STREAM = "-"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.set_defaults(run=run)
    parser.add_argument(
        "input", nargs="?", help="a file of articles or a folder of such; - reads standard input"
    )
    parser.add_argument(
        "output", nargs="?", help="the tagged file or folder; - writes standard output"
    )
    parser.add_argument("--title", help="tag one article instead of a file")
    parser.add_argument("--abstract", help="of the one article")
    parser.add_argument("--json", action="store_true", help="print the one article's tags as JSON")
    add_file_arguments(parser)
    _add_folder_arguments(add_run_arguments(parser))
    add_predictor_arguments(parser)


def _add_folder_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--shard", type=_shard, metavar="I/N", help="of a folder: every N-th file from the I-th"
    )
    group.add_argument(
        "--claim-timeout",
        type=float,
        default=CLAIM_TIMEOUT,
        metavar="SECONDS",
        help="of a folder: when the file of a process without a sign of life is taken over",
    )


def run(options: argparse.Namespace) -> None:
    """Do what the options say. Rows that cannot be tagged are in the output, with their error.

    Raises:
        StudytagError: an option, a file or the bundle is wrong, or the run was cut short.
    """
    single = options.title is not None or options.abstract is not None
    if single == (options.input is not None) or (options.output is None) != single:
        raise InputError("give an input and an output file, or --title and/or --abstract")
    folder = not single and options.input != STANDARD_STREAM and Path(options.input).is_dir()
    if options.shard and not folder:
        raise InputError(f"--shard is for folders, which {options.input} is not")
    if single:
        _predict_article(options)
        return
    with running(options) as stop, load_predictor(options) as predictor:
        if folder:
            _predict_folder(options, predictor, stop)
        else:
            _report(options.output, _predict_file(options, predictor, stop))


def _predict_article(options: argparse.Namespace) -> None:
    with load_predictor(options) as predictor:
        (prediction,) = predictor.predict({"title": options.title, "abstract": options.abstract})
        text = (
            json.dumps(asdict(prediction), ensure_ascii=False)
            if options.json
            else _readable(predictor, prediction)
        )
    sys.stdout.write(text + "\n")


def _predict_file(
    options: argparse.Namespace, predictor: Predictor, stop: Callable[[], bool]
) -> FileSummary:
    streams = STANDARD_STREAM in (options.input, options.output)
    with (
        _as_file("input", options.input, options.input_format) as source,
        _as_file("output", options.output, options.output_format) as target,
    ):
        return predict_file(
            predictor,
            source,
            target,
            source_format=options.input_format,
            target_format=options.output_format,
            options=file_options(options, predictor, resume=not streams),
            stop=stop,
            progress=listener(options),
        )


def _predict_folder(
    options: argparse.Namespace, predictor: Predictor, stop: Callable[[], bool]
) -> None:
    source = Path(options.input)
    summary = predict_folder(
        predictor,
        source,
        options.output,
        source_format=options.input_format,
        target_format=options.output_format,
        options=file_options(options, predictor),
        shard=options.shard or (1, 1),
        claim_timeout=options.claim_timeout,
        stop=stop,
        progress=listener(options),
    )
    logger.info(
        "%s: %d files tagged here, %d done before or elsewhere, %d failed; %.1f s",
        options.output,
        len(summary.files),
        summary.skipped,
        len(summary.failed),
        summary.seconds,
    )
    if failure := failures(summary, source):
        raise failure


def _shard(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9]+)/([0-9]+)", text)
    shard = (int(match.group(1)), int(match.group(2))) if match else (0, 0)
    if not 1 <= shard[0] <= shard[1]:
        raise argparse.ArgumentTypeError(f"expected I/N such as 3/16, from 1/16, not {text!r}")
    return shard


def _report(output: str, summary: FileSummary) -> None:
    logger.info(
        "%s: %s",
        "standard output" if output == STANDARD_STREAM else output,
        summary.describe(),
    )


@contextmanager
def _as_file(
    direction: Literal["input", "output"], name: str, format: str | None
) -> Iterator[Path]:
    """The file of that name, or a copy of the standard stream that `-` means.

    Standard input is copied first, since some formats are read twice; standard output gets its
    copy once that is complete.
    """
    if name != STANDARD_STREAM:
        yield Path(name)
        return
    if format is None:
        raise InputError(
            f"standard {direction} has no suffix; name its format with --{direction}-format"
        )
    with TemporaryDirectory(prefix="studytag-") as folder:
        copy = Path(folder, f"standard-{direction}")
        if direction == "input":
            with copy.open("wb") as file:
                shutil.copyfileobj(sys.stdin.buffer, file)
        yield copy
        if direction == "output":
            with copy.open("rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer)


def _readable(predictor: Predictor, prediction: Prediction) -> str:
    width = max(map(len, prediction.probabilities))
    return "\n".join(
        f"{'*' if label in prediction.labels else ' '} {label:{width}}  {probability:.3f}"
        f"  (threshold {predictor.thresholds[label]:.3f})"
        for label, probability in prediction.probabilities.items()
    )
