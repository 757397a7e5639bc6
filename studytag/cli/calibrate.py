"""`studytag calibrate`: fit a bundle to your own articles, without retraining."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from studytag.errors import InputError
from studytag.models import default_bundle


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.set_defaults(run=run)
    parser.add_argument(
        "bundle", nargs="?", type=Path, help="to start from (default: the tagger that ships)"
    )
    way = parser.add_mutually_exclusive_group(required=True)
    way.add_argument(
        "--labelled",
        type=Path,
        metavar="TABLE",
        help="your labelled articles: calibration and thresholds are refitted to them",
    )
    way.add_argument(
        "--prevalence",
        nargs="+",
        metavar="LABEL=SHARE",
        help="how frequent labels are among your articles, such as RCT=0.02",
    )
    way.add_argument(
        "--unlabelled",
        type=Path,
        metavar="FILE",
        help="your articles without labels: prevalence is estimated from them",
    )
    parser.add_argument("--output", type=Path, required=True, help="the new bundle")


def run(options: argparse.Namespace) -> None:
    """Do what the options say.

    Raises:
        StudytagError: an option, a file or the bundle is wrong.
    """
    from studytag.export.place import refuse_place
    from studytag.export.recalibration import (
        estimate_bundle_prevalence,
        recalibrate,
        shift_prevalence,
    )
    from studytag.files import read_rows

    bundle = options.bundle or default_bundle()
    refuse_place(options.output, (bundle, options.labelled, options.unlabelled))
    if options.labelled is not None:
        recalibrate(bundle, options.labelled, options.output)
        return
    if options.unlabelled is not None:
        prevalence = estimate_bundle_prevalence(bundle, read_rows(options.unlabelled))
        for label, share in prevalence.items():
            sys.stdout.write(f"{label}: {share:.1%}\n")
    else:
        prevalence = _shares(options.prevalence)
    shift_prevalence(bundle, prevalence, options.output)


def _shares(stated: Sequence[str]) -> dict[str, float]:
    """The share of each label, of LABEL=SHARE."""
    shares: dict[str, float] = {}
    for text in stated:
        label, _, share = text.rpartition("=")  # a label may have = in its name
        if label in shares:
            raise InputError(f"--prevalence {text}: {label} has a share already; give it one")
        try:
            shares[label] = float(share)
        except ValueError as error:
            raise InputError(f"--prevalence {text}: write LABEL=SHARE, such as RCT=0.02") from error
    return shares
