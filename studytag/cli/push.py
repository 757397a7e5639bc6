"""`studytag push`: put a bundle on the Hugging Face Hub."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.set_defaults(run=run)
    parser.add_argument("bundle", type=Path, help="folder that export made")
    parser.add_argument("name", help="of the model on the Hub: organisation/name")
    parser.add_argument("--revision", metavar="BRANCH", help="branch to commit to (default: main)")
    parser.add_argument("--private", action="store_true", help="if the model is new")
    parser.add_argument("--message", help="of the commit")
    parser.add_argument("--license", help="of the weights, such as cc-by-4.0, for a new model card")
    parser.add_argument(
        "--evaluation",
        type=Path,
        metavar="FILE",
        help="what `studytag evaluate --output` wrote; its scores go to .eval_results/",
    )
    parser.add_argument("--dataset", help="benchmark on the Hub whose articles were evaluated")


def run(options: argparse.Namespace) -> None:
    """Do what the options say; print the commit's address.

    Raises:
        StudytagError: the bundle or an option is wrong, or the Hub refuses.
    """
    from studytag.sharing.hub import push_bundle

    address = push_bundle(
        options.bundle,
        options.name,
        revision=options.revision,
        private=options.private,
        message=options.message,
        license=options.license,
        evaluation=options.evaluation,
        dataset=options.dataset,
    )
    sys.stdout.write(f"{address}\n")
