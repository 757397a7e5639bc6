"""accelerate's launcher from inside `studytag train`, and what it leaves undone on CPUs."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from subprocess import CalledProcessError
from types import FrameType

import psutil
import torch
from accelerate.commands.config import load_config_from_file
from accelerate.commands.config.config_args import default_config_file
from accelerate.commands.launch import launch_command, launch_command_parser
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main as torchrun

from studytag.errors import InputError, StoppedError, StudytagError
from studytag.hardware import available_cores

logger = logging.getLogger(__name__)

TRAINING_MODULE = "studytag.cli.train"
MISTAKE = StudytagError.exit_code
"""Exit code of a process that has explained, in one line, what is wrong."""

_EXPLAINED = (MISTAKE, StoppedError.exit_code)

_LAUNCH_ARGUMENTS = "STUDYTAG_LAUNCH_ARGUMENTS"
"""Holds the launcher's arguments, as JSON, for the processes that `studytag train` starts."""


def run_launcher(
    arguments: Sequence[str], config_file: str | None = None, processes: int | None = None
) -> int:
    """Train in the processes that accelerate's launcher starts.

    Args:
        arguments: Of training.
        config_file: Of accelerate.
        processes: How many; None leaves it to the configuration, or to the number of GPUs.

    Returns:
        The exit code of training.

    Raises:
        InputError: accelerate refuses its configuration.
    """
    options = _launch_arguments(config_file, processes)
    os.environ[_LAUNCH_ARGUMENTS] = json.dumps(options)
    parsed = _launch_parser().parse_args([*options, "-m", TRAINING_MODULE, *arguments])
    try:
        with _signals_for_children(), _mistakes_said_once():
            launch_command(parsed)
    except CalledProcessError as error:
        return _exit_code(error.returncode)
    except ChildFailedError as error:
        return _exit_code(error.get_first_failure()[1].exitcode)
    except (ValueError, TypeError) as error:
        raise InputError(f"accelerate: {' '.join(str(error).split())}") from error
    finally:
        del os.environ[_LAUNCH_ARGUMENTS]
    return 0


def launch_cpu_processes(arguments: Sequence[str]) -> bool:
    """Start the processes that `accelerate launch --cpu --num_processes N` was asked for.

    On CPUs accelerate starts a single process whatever N is, unless it is given an MPI host file
    (huggingface/accelerate#2741). It leaves a master port behind but no rank; the number itself is
    only among its own arguments, which are read with its own parser. torchrun then does the rest.

    Returns:
        Whether processes were started; they have ended then.

    Raises:
        SystemExit: one of them failed; with its exit code.
    """
    environment = os.environ
    if environment.get("ACCELERATE_USE_CPU", "").lower() != "true":
        return False
    if "MASTER_PORT" not in environment or "LOCAL_RANK" in environment:
        return False
    processes = _processes_asked_for()
    if processes < 2:
        return False
    logger.info("starting %d CPU processes", processes)
    port = environment["MASTER_PORT"]
    try:
        with _mistakes_said_once():
            torchrun(
                [f"--nproc_per_node={processes}", f"--master_port={port}"]
                + ["-m", TRAINING_MODULE, *arguments]
            )
    except ChildFailedError as error:
        sys.exit(_exit_code(error.get_first_failure()[1].exitcode))
    return True


def use_all_cores() -> None:
    """Give PyTorch every core if this is the launcher's only process and no number was asked for.

    Without `--cpu`, accelerate sets OMP_NUM_THREADS=1 for it, also where there is no GPU.
    """
    options = _launcher_options()
    if options is None or "WORLD_SIZE" in os.environ:
        return
    if options.num_cpu_threads_per_process is None and not _threads_limited_by_user():
        torch.set_num_threads(available_cores())


def launcher_prints_traceback() -> bool:
    """Whether `accelerate launch` is above this process and follows an error with a traceback."""
    options = _launcher_options()
    return options is not None and _LAUNCH_ARGUMENTS not in os.environ and not options.quiet


def _launch_arguments(config_file: str | None, processes: int | None) -> list[str]:
    """The launcher's own arguments; without a configuration of the user's, ours are complete."""
    if config_file is not None and not os.path.isfile(config_file):
        raise InputError(f"{config_file}: no such file; give accelerate's configuration")
    given = ["--config_file", config_file] if config_file is not None else []
    if processes is not None:
        given += ["--num_processes", str(processes)]
    if config_file is not None or os.path.isfile(default_config_file):
        return given
    gpus = torch.cuda.device_count()
    if processes is None:
        given += ["--num_processes", str(max(gpus, 1))]
    elif processes > 1 and not gpus and not torch.backends.mps.is_available():
        given += ["--cpu"]
    precision = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    return [*given, *("--num_machines", "1", "--mixed_precision", precision)] + [
        *("--dynamo_backend", os.environ.get("ACCELERATE_DYNAMO_BACKEND", "no").lower())
    ]


@contextmanager
def _signals_for_children() -> Iterator[None]:
    """Leave Ctrl-C to the children, who have it from the terminal, and pass SIGTERM on to them."""

    def ignore(_: int, __: FrameType | None) -> None:
        pass

    def pass_on(number: int, _: FrameType | None) -> None:
        for child in psutil.Process().children():
            child.send_signal(number)

    handlers = {signal.SIGINT: ignore, signal.SIGTERM: pass_on}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _mistakes_said_once() -> Iterator[None]:
    """Keep torchrun from reporting a process that has told itself why it ended."""

    def unexplained(record: logging.LogRecord) -> bool:
        message = record.getMessage()
        explained = any(f"exitcode: {code})" in message for code in _EXPLAINED)
        return not explained and "closing signal" not in message

    elastic = logging.getLogger("torch.distributed.elastic.multiprocessing.api")
    elastic.addFilter(unexplained)
    try:
        yield
    finally:
        elastic.removeFilter(unexplained)


def _exit_code(returned: int) -> int:
    """As a shell reports it: 128 + number of the signal that ended a process."""
    return returned if returned >= 0 else 128 - returned


def _processes_asked_for() -> int:
    """`--num_processes` of the accelerate launcher above this process; 1 if there is none."""
    options = _launcher_options()
    if options is None:
        return 1
    config_file = options.config_file
    # As accelerate does: what `accelerate config` wrote, unless --cpu was given.
    if config_file is None and not options.cpu and os.path.isfile(default_config_file):
        config_file = default_config_file
    if options.num_processes is None and config_file is not None:
        return int(load_config_from_file(config_file).num_processes)
    return int(options.num_processes or 1)


def _launcher_options() -> Namespace | None:
    """What the launcher above this process was given; None if there is none."""
    stored = os.environ.get(_LAUNCH_ARGUMENTS)
    if stored is not None:
        arguments = json.loads(stored)
    else:
        launcher = _launcher()
        if launcher is None:
            return None
        command = launcher.cmdline()
        arguments = command[command.index("launch") + 1 :]
    # A module stands in for what follows the options, which the parser insists on.
    return _launch_parser().parse_known_args([*arguments, "-m", TRAINING_MODULE])[0]


def _launcher() -> psutil.Process | None:
    """The `accelerate launch` that started this process, if one did."""
    parent = psutil.Process().parent()
    try:
        return parent if parent is not None and "launch" in parent.cmdline() else None
    except psutil.Error:
        return None


def _threads_limited_by_user() -> bool:
    parent = psutil.Process().parent()
    try:
        return parent is not None and "OMP_NUM_THREADS" in parent.environ()
    except psutil.Error:
        return False


def _launch_parser() -> ArgumentParser:
    parser: ArgumentParser = launch_command_parser()
    return parser
