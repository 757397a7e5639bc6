"""`studytag evaluate`: score a bundle on a labelled table."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `studytag evaluate`."""
    parser.add_argument("table", type=Path, help="such as data/processed/test.parquet")
    parser.add_argument("--bundle", default="artifacts/bundle", help="folder of the bundle")
    parser.add_argument("--variant", default="auto", help="quantized, fp32 or auto")
    parser.add_argument("--threads", type=int, help="cores to use (all that are allowed)")
    parser.add_argument("--operating-point", default="micro_f1", help="whose thresholds decide")
    parser.add_argument("--output", type=Path, help="also write everything as JSON to this file")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from studytag.evaluation.evaluate import evaluate, report
    from studytag.files import write_json_atomically
    from studytag.inference.predictor import Predictor

    with Predictor.from_pretrained(
        options.bundle,
        variant=options.variant,
        threads=options.threads,
        operating_point=options.operating_point,
    ) as predictor:
        result = evaluate(predictor, options.table).summary
    if options.output:
        write_json_atomically(options.output, result)
    sys.stdout.write(report(result))
