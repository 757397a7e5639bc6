"""`studytag screen`: keep the records of some study designs, set the others aside, and report."""

from __future__ import annotations

import argparse
from pathlib import Path

from studytag.cli.options import add_predictor_arguments, load_predictor
from studytag.cli.run_options import (
    add_file_arguments,
    add_run_arguments,
    file_options,
    listener,
    running,
)
from studytag.cli.terminal import show
from studytag.files import write_json_atomically
from studytag.inference.screen_file import describe_tagger, screen_file
from studytag.inference.screening import KEEP_POINT, Rule, set_aside_path
from studytag.outputs import reserved


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.set_defaults(run=run)
    parser.add_argument("input", type=Path, help="a file of articles")
    parser.add_argument(
        "output", type=Path, help="records to screen; the others go to NAME.set-aside.ext beside it"
    )
    parser.add_argument(
        "--keep", metavar="LABELS", default="", help="records need one of these, such as RCT,Cohort"
    )
    parser.add_argument(
        "--drop",
        metavar="LABELS",
        default="",
        help="records may have none of these, at the operating point precise or a stricter one",
    )
    parser.add_argument("--report", type=Path, metavar="FILE", help="also write the report as JSON")
    add_file_arguments(parser)
    add_run_arguments(parser)
    add_predictor_arguments(parser)
    parser.set_defaults(operating_point=KEEP_POINT)


def run(options: argparse.Namespace) -> None:
    """Screen the file and report, unless that is to be quiet: counts, and a methods paragraph.

    Raises:
        StudytagError: an option, a file or the bundle is wrong.
    """
    rule = Rule(keep=_labels(options.keep), drop=_labels(options.drop))
    aside = set_aside_path(options.output)
    with (
        reserved(options.report, [options.input], [options.output, aside]),
        running(options) as stop,
        load_predictor(options) as predictor,
    ):
        screening = screen_file(
            predictor,
            options.input,
            options.output,
            rule,
            source_format=options.input_format,
            target_format=options.output_format,
            options=file_options(options, predictor),
            stop=stop,
            progress=listener(options),
        )
        tagger = describe_tagger(predictor)
        if options.report is not None:
            write_json_atomically(options.report, screening.to_dict(tagger))
    if not options.quiet:
        show(screening.to_text(tagger))
        show(f"\nTo screen: {options.output}\nSet aside: {aside}\n")


def _labels(text: str) -> tuple[str, ...]:
    return tuple(label.strip() for label in text.split(",") if label.strip())
