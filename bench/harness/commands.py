"""What the commands of the benchmarks share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from studytag.errors import StudytagError


def parser_of(doc: str | None) -> argparse.ArgumentParser:
    """A parser with the first line of a module's docstring as its description."""
    return argparse.ArgumentParser(description=(doc or "").splitlines()[0])


def add_training_arguments(parser: argparse.ArgumentParser, name: str | None = None) -> None:
    """The table to evaluate on, and how encoders are trained for that."""
    parser.add_argument("table", type=Path, help="articles to evaluate on, with their folds")
    parser.add_argument("--name", default=name, help="of the results")
    parser.add_argument("--seeds", type=int, nargs="+", default=[42], help="of the encoders")
    parser.add_argument("--work", type=Path, default=Path("artifacts/bench"))


def run(parser: argparse.ArgumentParser, act: Callable[[argparse.Namespace], str]) -> None:
    """Print what the command has to say; a mistake ends in one line."""
    try:
        sys.stdout.write(act(parser.parse_args()))
    except StudytagError as error:
        sys.exit(f"error: {error}")
