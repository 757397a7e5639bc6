"""`studytag package`: make a bundle a package that pip installs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.set_defaults(run=run)
    parser.add_argument("bundle", type=Path, help="folder that export made")
    parser.add_argument("--name", required=True, help="of the package, such as studytag-dental")
    parser.add_argument("--version", required=True, help="of the package, such as 1.0")
    parser.add_argument("--output", type=Path, default=Path("dist"), help="folder for the wheel")
    parser.add_argument("--variant", help="carry this one alone, such as int8")
    parser.add_argument("--license", metavar="SPDX", help="of the weights, such as CC-BY-4.0")


def run(options: argparse.Namespace) -> None:
    """Do what the options say; print the wheel's path.

    Raises:
        StudytagError: the bundle or an option is wrong.
    """
    from studytag.sharing.wheel import build_wheel

    wheel = build_wheel(
        options.bundle,
        options.name,
        options.version,
        options.output,
        variant=options.variant,
        license=options.license,
    )
    sys.stdout.write(f"{wheel}\n")
