"""`studytag export` and `python export`: make a bundle of a trained model."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.set_defaults(run=run)
    parser.add_argument("--model", default="artifacts/model/best", help="best model folder")
    parser.add_argument("--output", default="artifacts/bundle", help="the bundle")
    parser.add_argument(
        "--validation",
        default="data/processed/val.parquet",
        help="labelled table to tune thresholds and measure on",
    )
    parser.add_argument(
        "--max-f1-drop",
        type=float,
        default=0.005,
        help="leave the quantized variant out if it loses more micro-F1",
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=1e-4,
        help="how far fp32 probabilities may lie from PyTorch's",
    )


def run(args: argparse.Namespace) -> None:
    """Do what the options say; a quantized variant that is left out is a warning, no error.

    Raises:
        StudytagError: an option, a file or the model is wrong, or fp32 failed its gate.
    """
    from studytag.export.pipeline import export_bundle

    export_bundle(
        args.model,
        args.output,
        args.validation,
        max_f1_drop=args.max_f1_drop,
        tolerance=args.tolerance,
    )
