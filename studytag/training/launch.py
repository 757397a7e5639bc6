"""What `accelerate launch` leaves undone on CPUs: several processes, and more than one thread."""

from __future__ import annotations

import logging
import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING

from studytag.inference.runtime import available_cores

if TYPE_CHECKING:
    import psutil

logger = logging.getLogger(__name__)


def launch_cpu_processes(arguments: Sequence[str]) -> bool:
    """Start the processes that `accelerate launch --cpu --num_processes N` was asked for.

    On CPUs accelerate starts a single process whatever N is, unless it is given an MPI host file
    (huggingface/accelerate#2741). It leaves a master port behind but no rank; the number itself is
    only on its own command line, which is read with its own parser. torchrun then does the rest.

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
    processes = _asked_for()
    if processes < 2:
        return False
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    logger.info("starting %d CPU processes", processes)
    port = environment["MASTER_PORT"]
    try:
        torchrun(
            [f"--nproc_per_node={processes}", f"--master_port={port}"]
            + ["-m", "studytag.training", *arguments]
        )
    except ChildFailedError as error:
        sys.exit(error.get_first_failure()[1].exitcode)
    return True


def use_all_cores() -> None:
    """Give PyTorch every core if this is the launcher's only process and no number was asked for.

    Unless told `--cpu`, accelerate sets OMP_NUM_THREADS=1 for it, also where there is no GPU.
    """
    import torch

    launcher = _launcher()
    if launcher is None or "WORLD_SIZE" in os.environ:
        return
    asked = _options(launcher).num_cpu_threads_per_process
    if asked is None and "OMP_NUM_THREADS" not in launcher.environ():
        torch.set_num_threads(available_cores())


def _asked_for() -> int:
    """`--num_processes` of the accelerate launcher above this process; 1 if there is none."""
    from accelerate.commands.config import load_config_from_file

    launcher = _launcher()
    if launcher is None:
        return 1
    options = _options(launcher)
    if options.num_processes is None and options.config_file is not None:
        return int(load_config_from_file(options.config_file).num_processes)
    return int(options.num_processes or 1)


def _launcher() -> psutil.Process | None:
    """The `accelerate launch` that started this process, if one did."""
    import psutil

    parent = psutil.Process().parent()
    return parent if parent is not None and "launch" in parent.cmdline() else None


def _options(launcher: psutil.Process) -> Namespace:
    """What the launcher was told, read with its own parser."""
    from accelerate.commands.launch import launch_command_parser

    command = launcher.cmdline()
    parser: ArgumentParser = launch_command_parser()
    return parser.parse_known_args(command[command.index("launch") + 1 :])[0]
