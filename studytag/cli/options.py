"""Options that several commands share, declared once, and how help is printed."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, get_args

from studytag.files import FORMATS
from studytag.manifest import DEFAULT_OPERATING_POINT, OperatingPoint

if TYPE_CHECKING:
    from studytag.inference.predictor import Predictor


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Prints defaults, but not that an option has none."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or action.default is False:
            return action.help
        return super()._get_help_string(action)


def add_predictor_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that choose a bundle and how it runs."""
    parser.add_argument(
        "--bundle",
        help="folder that export made, package, or hf://organisation/name on the Hugging Face Hub "
        "(default: the tagger that ships)",
    )
    parser.add_argument(
        "--variant",
        default="auto",
        choices=("auto", "int8", "fp32", "fast", "int8-openvino"),
        help="auto: of those with the same answers the fastest as measured on this machine, else "
        "int8; fast: less work, slightly worse answers",
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="articles side by side (default: all cores)"
    )
    parser.add_argument(
        "--threads-per-worker", type=int, metavar="N", default=1, help="cores on one article"
    )
    add_signature_argument(parser)
    add_operating_point(parser)


def add_signature_argument(parser: argparse.ArgumentParser) -> None:
    """The option that refuses a bundle that is not signed by a certain key."""
    parser.add_argument(
        "--require-signature",
        metavar="KEY",
        help="refuse a bundle that the owner of this public key (a PEM file) did not sign",
    )


def add_format_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that name the formats of input and output."""
    parser.add_argument(
        "--input-format", metavar="F", choices=tuple(FORMATS), help="where the suffix does not say"
    )
    parser.add_argument(
        "--output-format",
        metavar="F",
        choices=tuple(name for name, format in FORMATS.items() if format.write),
        help="where the suffix does not say; of a folder's files: all get it",
    )


def add_operating_point(parser: argparse.ArgumentParser) -> None:
    """The option that chooses the thresholds."""
    parser.add_argument(
        "--operating-point",
        default=DEFAULT_OPERATING_POINT,
        choices=get_args(OperatingPoint),
        help="whose thresholds decide",
    )


def load_predictor(options: argparse.Namespace) -> Predictor:
    """The predictor that the options of `add_predictor_arguments` choose.

    Raises:
        StudytagError: the bundle or an option is wrong.
    """
    from studytag.inference.predictor import Predictor

    return Predictor.from_pretrained(
        options.bundle,
        variant=options.variant,
        workers=options.workers,
        threads_per_worker=options.threads_per_worker,
        operating_point=options.operating_point,
        require_signature=options.require_signature,
    )
