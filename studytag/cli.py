"""The `studytag` command. Each stage describes its own arguments; this file only joins them."""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
from collections.abc import Sequence

from studytag import __version__
from studytag.errors import StudytagError, missing_dependency
from studytag.help import HelpFormatter

_COMMANDS = {
    "data": ("studytag.data.command", "data", "build, fetch or make up tables of articles"),
    "export": ("studytag.export.command", "export", "make a bundle of the best model"),
    "predict": ("studytag.inference.command", "files", "tag a file, or one article"),
    "runs": ("studytag.training.runs", "train", "list training runs and compare their scores"),
    "report": ("studytag.report.command", "report", "make a page about a bundle's quality"),
    "evaluate": ("studytag.evaluation.command", "evaluate", "score a bundle on a labelled table"),
}
"""Command to its module, the extra that it needs, and its help. Modules are imported only when
their command is used: predicting must not pay for what exporting needs."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; a user's mistake ends in one line on stderr and exit code 2."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr)
    try:
        options = _parser(arguments).parse_args(arguments)
        options.run(options)
    except StudytagError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="studytag",
        description="Study-design tags for biomedical articles. Training: accelerate launch train",
    )
    parser.add_argument("--version", action="version", version=f"studytag {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (module, extra, text) in _COMMANDS.items():
        command = commands.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            formatter_class=HelpFormatter,
        )
        if name == next(iter(arguments), None):
            try:
                importlib.import_module(module).add_arguments(command)
            except ImportError as error:
                raise missing_dependency(error.name or module, extra) from error
    return parser


if __name__ == "__main__":
    main()
