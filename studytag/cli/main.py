"""`studytag COMMAND`: finds the command's module, runs it, and ends a mistake in one line."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any

from studytag.cli.options import HelpFormatter
from studytag.errors import MissingDependencyError, StudytagError, missing_dependency
from studytag.version import __version__

_COMMANDS = {
    "demo": ("files,report", "tag a few invented articles, for a first look"),
    "predict": ("files", "tag a file of articles, or a single article"),
    "screen": ("files", "keep the records of some study designs, set the others aside"),
    "zotero": ("zotero", "tag the articles of a Zotero library"),
    "serve": ("serve", "serve the tagger over HTTP, with a page for people"),
    "evaluate": ("evaluate", "score a bundle or a model on a labelled table"),
    "data": ("data", "build, fetch, audit or make up tables of articles"),
    "train": ("train", "fine-tune an encoder; the same as: accelerate launch train"),
    "runs": ("train", "list training runs and compare their scores"),
    "export": ("export", "make a bundle of a trained model"),
    "calibrate": ("evaluate", "fit a bundle to your own articles, without retraining"),
    "package": ("package", "make a bundle a package that pip installs"),
    "push": ("hub", "put a bundle on the Hugging Face Hub"),
}
"""Command to the extra that it needs, and its help. The module `studytag.cli.<command>` is imported
only when the command is used: predicting must not pay for what exporting needs."""

_PIPE_CLOSED = 141
"""128 + SIGPIPE: what a shell reports of a program whose reader went away."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; what a user can mend ends in one line on stderr and its own exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr)
    try:
        _run(arguments)
        sys.stdout.flush()
    except StudytagError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # Whoever read our output has gone (`studytag ... | head`): nothing more to say to anyone.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(_PIPE_CLOSED)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)


def _run(arguments: Sequence[str]) -> None:
    name = next(iter(arguments), None)
    if name == "train":
        # Not parsed here: accelerate's launcher starts the processes, which read the options.
        _module(name).launch(arguments[1:])
        return
    options = _parser(name).parse_args(arguments)
    options.run(options)


def _parser(chosen: str | None) -> argparse.ArgumentParser:
    """The parser of all commands, with the options of the chosen one."""
    parser = argparse.ArgumentParser(
        prog="studytag",
        description="Study-design tags for biomedical articles, from title and abstract.",
    )
    parser.add_argument("--version", action="version", version=f"studytag {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (_, text) in _COMMANDS.items():
        command = commands.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            formatter_class=HelpFormatter,
        )
        if name == chosen:
            _module(name).add_arguments(command)
    return parser


def _module(command: str) -> Any:
    """The module of a command.

    Raises:
        MissingDependencyError: a package that it needs is not installed.
    """
    try:
        return importlib.import_module(f"studytag.cli.{command}")
    except MissingDependencyError:
        raise
    except ImportError as error:
        raise missing_dependency(error.name or command, _COMMANDS[command][0]) from error
