"""The command behind `accelerate launch train` and `accelerate launch -m studytag.training`."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from studytag.errors import StudytagError, missing_dependency


def main(arguments: Sequence[str] | None = None) -> None:
    """Train by the flags given and report on it; a mistake ends in one line and exit code 2."""
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    for talkative in ("httpx", "filelock", "accelerate.accelerator", "accelerate.checkpointing"):
        logging.getLogger(talkative).setLevel(logging.WARNING)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    first = os.environ.get("RANK", "0") == "0"
    try:
        try:
            from studytag.training.config import parse_config
            from studytag.training.launch import launch_cpu_processes, use_all_cores
            from studytag.training.loop import train
        except ImportError as error:
            raise missing_dependency(error.name or str(error), "train") from error
        config = parse_config(arguments)
        if not launch_cpu_processes(sys.argv[1:] if arguments is None else arguments):
            use_all_cores()
            best = train(config)
            if best is not None and first:
                # Imported late: its pictures need libraries that training can do without.
                from studytag.report.run import report_on_run

                page = report_on_run(best.parent, Path(config.validation_file))
                logging.getLogger(__name__).info("report: %s", page)
    except StudytagError as error:
        if first:
            sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
