"""`studytag predict` and `python infer`: tag a file, a folder, or one article."""

from __future__ import annotations

import argparse
import json
import logging
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from studytag.cli.json_log import JsonListener, json_log
from studytag.cli.options import add_format_arguments, add_predictor_arguments, load_predictor
from studytag.cli.signals import stop_requests
from studytag.errors import InputError
from studytag.inference.files import Options, predict_file
from studytag.inference.folder import CLAIM_TIMEOUT, failures, predict_folder
from studytag.inference.journal import PART_SECONDS
from studytag.inference.predictor import Prediction, Predictor
from studytag.inference.progress import FileSummary, Listener

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
    add_format_arguments(parser)
    _add_file_arguments(parser)
    _add_run_arguments(parser)
    add_predictor_arguments(parser)


def _add_file_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how files are read and written")
    group.add_argument("--encoding", help="of text input that is wrongly recognised")
    group.add_argument(
        "--title-only",
        action="store_true",
        help="accept a file whose rows have no abstract though another column reads like one",
    )
    group.add_argument(
        "--prefix", default="studytag: ", help="begins a label that becomes a keyword (RIS, ...)"
    )
    group.add_argument(
        "--indicators",
        action="store_true",
        help="tables get a column of 0 and 1 for each label, as ASReview reads them",
    )
    group.add_argument("--excel", action="store_true", help="write CSV as Excel opens it best")


def _add_run_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("long runs")
    group.add_argument(
        "--restart", action="store_true", help="throw away what an earlier run has left"
    )
    group.add_argument(
        "--no-resume", action="store_true", help="keep no parts beside the output to go on with"
    )
    group.add_argument(
        "--commit-every",
        type=float,
        default=PART_SECONDS,
        metavar="SECONDS",
        help="how much work a kill may cost at most",
    )
    group.add_argument(
        "--hash-input",
        action="store_true",
        help="identify the input by all of its content; its modification time may then change",
    )
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
    group.add_argument("--quiet", action="store_true", help="no progress bar, no summary")
    group.add_argument(
        "--log-json", action="store_true", help="progress, errors, summary: JSON on standard error"
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
    if options.quiet:
        logging.getLogger("studytag").setLevel(logging.WARNING)
    if single:
        _predict_article(options)
        return
    with json_log() if options.log_json else nullcontext(), stop_requests() as stop:
        with load_predictor(options) as predictor:
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
        _input_file(options.input, options.input_format) as source,
        _output_file(options.output, options.output_format) as target,
    ):
        return predict_file(
            predictor,
            source,
            target,
            source_format=options.input_format,
            target_format=options.output_format,
            options=_file_options(options, predictor, resume=not streams),
            stop=stop,
            progress=_listener(options),
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
        options=_file_options(options, predictor),
        shard=options.shard or (1, 1),
        claim_timeout=options.claim_timeout,
        stop=stop,
        progress=_listener(options),
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


def _file_options(
    options: argparse.Namespace, predictor: Predictor, resume: bool = True
) -> Options:
    return Options(
        encoding=options.encoding,
        refuse_ignored_text=not options.title_only,
        writing={
            "prefix": options.prefix,
            "indicators": predictor.labels if options.indicators else (),
            "excel": options.excel,
        },
        resume=resume and not options.no_resume,
        restart=options.restart,
        hash_input=options.hash_input,
        commit_seconds=options.commit_every,
    )


def _listener(options: argparse.Namespace) -> bool | Listener:
    return JsonListener() if options.log_json else not options.quiet


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
