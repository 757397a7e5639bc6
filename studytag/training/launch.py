"""Several CPU processes under `accelerate launch`."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence

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


def _asked_for() -> int:
    """`--num_processes` of the accelerate launcher above this process; 1 if there is none."""
    import psutil
    from accelerate.commands.config import load_config_from_file
    from accelerate.commands.launch import launch_command_parser

    parent = psutil.Process().parent()
    command = parent.cmdline() if parent is not None else []
    if "launch" not in command:
        return 1
    options, _ = launch_command_parser().parse_known_args(command[command.index("launch") + 1 :])
    if options.num_processes is None and options.config_file is not None:
        return int(load_config_from_file(options.config_file).num_processes)
    return int(options.num_processes or 1)
