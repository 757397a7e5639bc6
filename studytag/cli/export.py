"""`studytag export` and `python export`: make a bundle of a trained model."""

from __future__ import annotations

import argparse
from pathlib import Path

from studytag.errors import import_extra
from studytag.manifest import FAST_TOKENS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.set_defaults(run=run)
    parser.add_argument(
        "--model",
        type=Path,
        default=Path("artifacts/model/best"),
        help="best model folder of a training run, or any transformers checkpoint",
    )
    parser.add_argument(
        "--validation",
        type=Path,
        default=Path("data/processed/val.parquet"),
        help="labelled table to tune thresholds and measure on; with --like, the one that the "
        "model was trained with",
    )
    parser.add_argument("--output", type=Path, default=Path("artifacts/bundle"), help="the bundle")
    parser.add_argument(
        "--ngrams",
        type=Path,
        metavar="TABLE",
        help="learn single words and pairs from this table, the one that was trained on, and add "
        "what they tell to every variant (default: those that training learned, if it did)",
    )
    parser.add_argument(
        "--like",
        type=Path,
        metavar="BUNDLE",
        help="for a model that learned from the validation articles too: take calibration, "
        "thresholds and scores from this bundle of the same recipe, whose model did not",
    )
    parser.add_argument(
        "--variants",
        nargs="+",
        default=["fp32", "int8"],
        choices=("fp32", "int8", "fast", "int8-openvino"),
        help="what the bundle keeps; int8-openvino needs the extra export-openvino",
    )
    parser.add_argument(
        "--fast-tokens",
        type=int,
        metavar="N",
        help="tokens that the transformer reads of a text in the variant fast, where the words say "
        f"most (default: {FAST_TOKENS}, or those of --like)",
    )
    parser.add_argument(
        "--max-f1-drop",
        type=float,
        default=0.005,
        help="leave an int8 variant out if it loses more micro-F1; with --like, fail if one has so "
        "much less than there",
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=1e-4,
        help="how far fp32 probabilities may lie from PyTorch's",
    )
    parser.add_argument(
        "--card", type=Path, metavar="FILE", help="model card that becomes the bundle's README.md"
    )


def run(options: argparse.Namespace) -> None:
    """Do what the options say; an int8 variant that is left out is a warning, no error.

    Raises:
        StudytagError: an option, a file or the model is wrong, or fp32 failed its gate.
    """
    pipeline = import_extra("studytag.export.pipeline", "export")
    pipeline.export_bundle(
        options.model,
        options.output,
        options.validation,
        ngrams=options.ngrams,
        like=options.like,
        fast_tokens=options.fast_tokens,
        variants=options.variants,
        max_f1_drop=options.max_f1_drop,
        tolerance=options.tolerance,
        card=options.card,
    )
