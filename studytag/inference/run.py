"""A run of `predict_file` on its way: what it is, what it keeps, how it ends."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from studytag.errors import (
    DISK_ERRORS,
    CellTooLongError,
    InputError,
    StoppedError,
    StorageError,
    StudytagError,
)
from studytag.files import WriteOptions
from studytag.inference.identity import differences, input_identity, predictor_identity
from studytag.inference.journal import (
    PART_SECONDS,
    Journal,
    remove_work_folder,
    stored_identity,
    work_folder,
)
from studytag.inference.predictor import Predictor
from studytag.inference.progress import Listener
from studytag.manifest import OperatingPoint

logger = logging.getLogger(__name__)

DIRECT_BYTES = 1 << 20
"""Files smaller than this are tagged again rather than gone on with: they take seconds."""


@dataclass(frozen=True)
class Options:
    """How files are tagged, beyond what the predictor decides.

    Attributes:
        operating_point: Decide by these thresholds instead of the predictor's own.
        encoding: Of text input, where it is not UTF-8 and not found out rightly.
        refuse_ignored_text: Refuse an input none of whose rows has an abstract while a column that
            reads like one is ignored.
        writing: How the output is written.
        resume: Keep committed parts beside the output, and go on with those of an earlier run.
        restart: Throw away the parts of an earlier run.
        hash_input: Identify the input by its whole SHA-256, not by its time, size, head and tail.
        commit_seconds: How much work a kill may cost at most.
    """

    operating_point: OperatingPoint | None = None
    encoding: str | None = None
    refuse_ignored_text: bool = False
    writing: WriteOptions = WriteOptions()
    resume: bool = True
    restart: bool = False
    hash_input: bool = False
    commit_seconds: float = PART_SECONDS


@dataclass
class Run:
    """One run of `predict_file` on its way.

    Attributes:
        source: The input.
        target: The output.
        labels: The predictor's labels.
        stop: Whether to end early.
        listener: Hears of the progress.
        journal: Where outcomes are committed, if they are.
        identity: Of the input, when the run began.
        stopped: Whether reading was ended by `stop`.
        rows: Rows written.
        failed: Rows among them with an error.
        kept: Rows whose outcome comes from an earlier run.
    """

    source: Path
    target: Path
    labels: list[str]
    stop: Callable[[], bool]
    listener: Listener
    journal: Journal | None = None
    identity: dict[str, Any] = field(default_factory=dict)
    stopped: bool = False
    rows: int = 0
    failed: int = 0
    kept: int = 0

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Commit what is finished however the block ends, and say what is kept."""
        try:
            yield
        except BaseException as error:
            if self.journal:
                with suppress(OSError):
                    self.journal.commit()
                self.journal.close()
            self.listener.end(None)
            if isinstance(error, StudytagError | OSError) and not isinstance(error, StoppedError):
                raise self._kept(error) from error
            raise

    def check_complete(self) -> None:
        """Refuse to let the output appear if the run was stopped, or its input has changed.

        Raises:
            StoppedError: it was stopped.
            InputError: the input has changed since the run began.
        """
        if self.stopped:
            if self.journal:
                self.journal.commit()
                kept = f"{self.journal.rows} rows are kept in {self.journal.folder}"
            else:
                kept = "its rows were not kept"
            raise StoppedError(
                f"{self.target}: stopped before its end; {kept}: run the same command to go on"
            )
        if self.journal and differences(self.identity, input_identity(self.source), self.source):
            raise InputError(
                f"{self.source}: was changed while it was read; tag it again with --restart"
            )

    def _kept(self, error: StudytagError | OSError) -> StudytagError:
        """`error` as a line that says what is kept."""
        failure = error if isinstance(error, OSError) else error.__cause__
        begun = self.rows > 0 or bool(self.journal and self.journal.rows)
        storage = isinstance(failure, OSError) and (
            failure.errno in DISK_ERRORS or (failure.errno is not None and begun)
        )
        if isinstance(error, OSError):
            reason = error.strerror or " ".join(str(error).split())
            line = f"{self.target}: cannot be written ({reason})"
            if not storage:
                line += "; choose another place"
        else:
            line = str(error)
        if self.journal and self.journal.rows:
            line = line.removesuffix("; choose another place")  # the parts would stay behind
            line += (
                f"; {self.journal.rows} rows are kept in {self.journal.folder}: "
                "once that is mended, run the same command to go on"
            )
        if storage:
            return StorageError(line)
        if isinstance(error, OSError | CellTooLongError):
            return InputError(line)
        return type(error)(line)


def open_journal(
    run: Run,
    predictor: Predictor,
    point: OperatingPoint | None,
    source_format: str | None,
    options: Options,
) -> Journal | None:
    """The journal of the run, which goes on with an earlier one's; None where it keeps none.

    Raises:
        InputError: parts of another run lie beside the output, or the folder cannot be written.
    """
    folder = work_folder(Path(os.path.realpath(run.target)))
    if options.restart or not options.resume:
        remove_work_folder(folder)
    stored = stored_identity(folder)
    if stored is None:
        remove_work_folder(folder)
        if not options.resume or run.source.stat().st_size < DIRECT_BYTES:
            return None
    run.identity = input_identity(run.source, options.hash_input)
    identity = {
        **run.identity,
        **predictor_identity(predictor, point),
        "input format": source_format,
        "encoding": options.encoding,
    }
    if stored is not None and (changed := differences(stored, identity, run.source)):
        raise InputError(
            f"{run.target}: an earlier run has begun it differently ({'; '.join(changed)}); "
            f"run it as before, or begin anew with --restart"
        )
    try:
        journal = Journal(folder, identity, predictor.labels, options.commit_seconds)
    except (OSError, KeyError, TypeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        full = getattr(error, "errno", None) in DISK_ERRORS
        raise (StorageError if full else InputError)(
            f"{folder}: cannot be used ({reason}); free some space, choose another place, "
            "or keep no parts with --no-resume"
        ) from error
    if journal.rows:
        logger.info("%s: going on after row %d", run.target, journal.rows)
    return journal
