"""The options of runs over files, which `predict` and `screen` share, and what they mean."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from studytag.cli.json_log import JsonListener, json_log
from studytag.cli.options import add_format_arguments
from studytag.cli.signals import stop_requests
from studytag.files import PREFIX, WriteOptions
from studytag.inference.files import Options
from studytag.inference.journal import PART_SECONDS
from studytag.inference.predictor import Predictor
from studytag.inference.progress import Listener


def add_file_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that say how files are read and written."""
    add_format_arguments(parser)
    group = parser.add_argument_group("how files are read and written")
    group.add_argument("--encoding", help="of text input that is wrongly recognised")
    group.add_argument(
        "--title-only",
        action="store_true",
        help="accept a file whose rows have no abstract though another column reads like one",
    )
    group.add_argument(
        "--prefix", default=PREFIX, help="begins a label that becomes a keyword (RIS, ...)"
    )
    group.add_argument(
        "--indicators",
        action="store_true",
        help="tables get a column of 0 and 1 for each label, as ASReview reads them",
    )
    group.add_argument("--excel", action="store_true", help="write CSV as Excel opens it best")


def add_run_arguments(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """The options of runs that take long, in a group that may get more."""
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
    group.add_argument("--quiet", action="store_true", help="no progress bar, no summary")
    group.add_argument(
        "--log-json", action="store_true", help="progress, errors, summary: JSON on standard error"
    )
    return group


def file_options(options: argparse.Namespace, predictor: Predictor, resume: bool = True) -> Options:
    """How the files are tagged; `resume` says whether parts can be kept at all."""
    return Options(
        encoding=options.encoding,
        refuse_ignored_text=not options.title_only,
        writing=WriteOptions(
            prefix=options.prefix,
            indicators=tuple(predictor.labels) if options.indicators else (),
            excel=options.excel,
        ),
        resume=resume and not options.no_resume,
        restart=options.restart,
        hash_input=options.hash_input,
        commit_seconds=options.commit_every,
    )


def listener(options: argparse.Namespace) -> bool | Listener:
    """Who hears of the progress."""
    return JsonListener() if options.log_json else not options.quiet


@contextmanager
def running(options: argparse.Namespace) -> Iterator[Callable[[], bool]]:
    """Log as the options say and take note of signals, while the block runs.

    Yields:
        Whether a signal asks to stop.
    """
    ours = logging.getLogger("studytag")
    level = ours.level
    if options.quiet:
        ours.setLevel(logging.WARNING)
    try:
        with json_log() if options.log_json else nullcontext(), stop_requests() as stop:
            yield stop
    finally:
        ours.setLevel(level)
