"""`studytag train`, and what runs in each process under `accelerate launch`."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from studytag.errors import StoppedError, StudytagError, import_extra
from studytag.report.folder import refuse_foreign_report
from studytag.training.options import config_of, normalise_flags, option_parser, parse_config

logger = logging.getLogger(__name__)

_PATIENCE = 30
"""Seconds that the first process has to print an error before another one does."""


def launch(arguments: Sequence[str]) -> None:
    """`studytag train`: check the options, then train in the processes accelerate starts.

    Raises:
        StudytagError: an option is wrong; nothing was started.
        SystemExit: training failed; with its exit code. Its error has been printed.
    """
    flags = normalise_flags(arguments)
    launcher = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    _add_launcher_options(launcher)
    ours, training = launcher.parse_known_args(flags)
    parser = option_parser()
    _add_launcher_options(parser.add_argument_group("passed on to accelerate's launcher"))
    options = parser.parse_args(flags)
    del options.accelerate_config, options.num_processes
    config_of(options)
    module = import_extra("studytag.training.launch", "train")
    code = module.run_launcher(training, ours.accelerate_config, ours.num_processes)
    if code:
        sys.exit(code)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train in this process; a mistake ends in one line and exit code 2, a stop in 75.

    Runs under `accelerate launch train` and `accelerate launch -m studytag.cli.train`, which start
    it once for each process.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    _configure_logging()
    try:
        config = parse_config(arguments)
        report = Path(config.output_dir) / "report"
        refuse_foreign_report(report)  # now, rather than when the training is over
        launching = import_extra("studytag.training.launch", "train")
        if launching.launch_cpu_processes(arguments):
            return
        launching.use_all_cores()
        training = import_extra("studytag.training.loop", "train")
        with _stop_signals() as stop:
            best = training.train(config, stop=stop)
        if best is None:
            if _rank() == 0:
                _announce_traceback()
            sys.exit(StoppedError.exit_code)
        if _rank() == 0:
            _write_report(best, Path(config.validation_file), report)
    except StudytagError as error:
        _explain(error)
        sys.exit(error.exit_code)


def _add_launcher_options(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--accelerate-config", metavar="FILE", default=None, help="its YAML configuration"
    )
    parser.add_argument(
        "--num-processes",
        metavar="N",
        type=int,
        default=None,
        help="processes (default: one a GPU)",
    )


def _configure_logging() -> None:
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    for name in ("httpx", "filelock", "accelerate.accelerator", "accelerate.checkpointing"):
        logging.getLogger(name).setLevel(logging.WARNING)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


def _explain(error: StudytagError) -> None:
    """Print an error once, though every process may have it."""
    if _rank():
        # If the first process has it too, the launcher ends this one before it prints it again.
        time.sleep(_PATIENCE)
    sys.stderr.write(f"error: {error}\n")
    _announce_traceback()


def _announce_traceback() -> None:
    """Say whose the traceback is, where the launcher above prints one."""
    launching = sys.modules.get("studytag.training.launch")
    if launching is not None and launching.launcher_prints_traceback():
        sys.stderr.write(
            "(accelerate's own traceback follows; `studytag train` ends without one)\n"
        )
    sys.stderr.flush()


@contextmanager
def _stop_signals() -> Iterator[Callable[[], bool]]:
    """Have SIGTERM or Ctrl-C end training after the current step, with a checkpoint.

    Schedulers send SIGTERM before they kill. Before training has begun, and at the second time, a
    signal ends the process at once.
    """
    asked = training = False

    def stop() -> bool:
        nonlocal training
        training = True
        return asked

    def handle(number: int, _: FrameType | None) -> None:
        nonlocal asked
        if asked or not training:
            sys.exit(128 + number)
        asked = True
        logger.info("stopping after the current step; press Ctrl-C again to end at once")

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _write_report(best: Path, validation_file: Path, folder: Path) -> None:
    """Write `report/` into the run's folder: its best model on its validation table."""
    from studytag.dataset import load_evaluable
    from studytag.evaluation.evaluate import Origin, evaluate
    from studytag.manifest import DEFAULT_OPERATING_POINT, load_manifest
    from studytag.report.page import write_report
    from studytag.training.history import read_history
    from studytag.training.model_folder import PYTORCH, read_validation

    manifest = load_manifest(best)
    table = load_evaluable(validation_file, manifest.labels)
    evaluation = evaluate(
        manifest.labels,
        table.truth,
        table.known,
        read_validation(best, manifest.labels),
        manifest.thresholds(PYTORCH, DEFAULT_OPERATING_POINT),
        Origin(str(validation_file), str(best), PYTORCH, DEFAULT_OPERATING_POINT),
        table.years(),
    )
    epochs = read_history(best.parent)
    page = write_report(evaluation, table.rows, manifest, best, epochs, folder, fitted_here=True)
    logger.info("report: %s", page)


if __name__ == "__main__":
    main()
