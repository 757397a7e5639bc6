"""Tagging a file: rows in, the same rows with labels and probabilities out, in constant memory.

The output is written in one pass and renamed when it is complete. Beside it, every outcome goes to
committed parts (`studytag.inference.journal`). A run that was cut short is continued: its rows are
read and written again, which is cheap, and only what was not committed is predicted.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict
from pathlib import Path

from studytag.errors import InputError
from studytag.files import (
    ERROR_COLUMN,
    FORMATS,
    RowWriter,
    each_notice_once,
    estimate_rows,
    format_name,
    open_writer,
    output_in_use,
    read_rows,
    refuse_many_columns,
    target_name,
)
from studytag.inference.columns import added_names, refuse_taken
from studytag.inference.inputs import remember
from studytag.inference.output import write_rows
from studytag.inference.predictor import Outcome, Predictor
from studytag.inference.progress import FileSummary, Listener, as_listener
from studytag.inference.run import Options, Run, open_journal
from studytag.manifest import OperatingPoint
from studytag.outputs import refuse_overwriting
from studytag.records import PREDICTED_COLUMN, Row

__all__ = ["FileSummary", "Options", "predict_file", "tag_file"]


def predict_file(
    predictor: Predictor,
    source: str | Path,
    target: str | Path,
    *,
    source_format: str | None = None,
    target_format: str | None = None,
    operating_point: OperatingPoint | None = None,
    options: Options | None = None,
    stop: Callable[[], bool] | None = None,
    progress: bool | Listener = True,
) -> FileSummary:
    """Tag every row of a file. The output appears when it is complete, or not at all.

    Each row keeps its columns and gets `studytag_labels` (a list), `p_<label>` (a probability
    each) and `studytag_error`: None, or why this row could not be read or tagged, with the others
    None; or which of its cells the output could not hold as they are.

    A run that ends early (a kill, a full disk) leaves what it has finished in a work folder beside
    the output, `.NAME.studytag`; the same call goes on from there, and its output is the same byte
    for byte. Inputs below 1 MiB are tagged anew instead.

    Args:
        predictor: Tags the rows.
        source: Any file that `studytag.files.read_rows` reads.
        target: Any file that `studytag.files.open_writer` writes.
        source_format: Of `source`, where its suffix does not say it.
        target_format: Of `target`, where its suffix does not say it.
        operating_point: Decide by these thresholds instead of the predictor's own.
        options: All else; `operating_point` stands over its own.
        stop: Asked before every row is read; once it says True, the rows that were read are
            finished and committed, and the run ends.
        progress: Draw a bar where tqdm is installed and standard error is a terminal; or who
            hears of the progress.

    Raises:
        InputError: a file cannot be read or written, both are the same, a row already has one of
            the added columns, another process writes the output, or the parts of another run lie
            beside it.
        StorageError: the disk failed when part of the work was done.
        StoppedError: `stop` said so.
    """
    return tag_file(
        predictor,
        Path(source),
        [Path(target)],
        open_writer,
        source_format=source_format,
        target_format=target_format,
        operating_point=operating_point,
        options=options,
        stop=stop,
        progress=progress,
    )


@each_notice_once()  # the file is looked at more than once
def tag_file(
    predictor: Predictor,
    source: Path,
    targets: Sequence[Path],
    open_output: Callable[..., AbstractContextManager[RowWriter]],
    *,
    source_format: str | None = None,
    target_format: str | None = None,
    operating_point: OperatingPoint | None = None,
    options: Options | None = None,
    stop: Callable[[], bool] | None = None,
    progress: bool | Listener = True,
) -> FileSummary:
    """As `predict_file`, for whatever is written of the tagged rows.

    Args:
        predictor: Tags the rows.
        source: The input.
        targets: The outputs, which are locked; the parts are kept beside the first.
        open_output: Called as `studytag.files.open_writer` with the first of them; yields what
            takes the tagged rows. The outputs appear when its block ends.
        source_format: As in `predict_file`, like all that follow.
        target_format: Of every output.
        operating_point: Whose thresholds decide.
        options: All else.
        stop: Whether to end early.
        progress: Who hears of the progress.

    Raises:
        StudytagError: as `predict_file`.
    """
    refuse_overwriting(targets, [source])
    target = targets[0]
    options = options or Options()
    point = options.operating_point if operating_point is None else operating_point
    listener = as_listener(progress)
    started = time.perf_counter()
    # At once, so that a missing file is reported before anything is made.
    blanks: list[Row] = []
    rows = read_rows(
        source,
        source_format,
        encoding=options.encoding,
        errors="return",
        on_columns=blanks.append,
    )
    columns = _look_ahead(source, source_format, target, target_format, options)
    run = Run(source, target, predictor.labels, stop or (lambda: False), listener)
    with ExitStack() as locks:
        for path in targets:
            locks.enter_context(output_in_use(path))
        run.journal = open_journal(run, predictor, point, source_format, options)
        with run.closing():
            writing = asdict(options.writing) | {"mixed_as_text": True}
            with open_output(target, target_format, **writing) as writer:
                total = estimate_rows(source, source_format)
                pairs = _outcomes(run, rows, predictor, point, total)
                write_rows(run, writer, pairs, columns, blanks)
                run.check_complete()
        if run.journal:
            run.journal.remove()
    summary = FileSummary(run.rows, run.failed, time.perf_counter() - started, run.kept)
    listener.end(summary)
    return summary


def _look_ahead(
    source: Path,
    source_format: str | None,
    target: Path,
    target_format: str | None,
    options: Options,
) -> list[str]:
    """Read what must be known before the first row is predicted; that costs little beside it.

    Returns:
        Every column, if the output is a table and the rows of the input may have different ones:
        a table's columns are written first.

    Raises:
        InputError: no row has an abstract while another column reads like one, or the output does
            not take as many rows.
    """
    output = FORMATS[target_name(target, target_format)]
    all_columns = output.table and not FORMATS[format_name(source, source_format)].uniform
    names: dict[str, None] = {}
    rows = read_rows(
        source,
        source_format,
        encoding=options.encoding,
        refuse_ignored_text=options.refuse_ignored_text,
        errors="return",
        quiet=True,
    )
    for number, row in enumerate(rows, 1):
        if output.most_rows and number > output.most_rows:
            raise InputError(
                f"{target}: {output.title} takes {output.most_rows:,} rows and {source} has more; "
                "write .csv or .parquet"
            )
        if all_columns:
            names |= dict.fromkeys(row)
            refuse_many_columns(source, len(names), "write .jsonl")
        elif not output.most_rows and (not options.refuse_ignored_text or row.get("abstract")):
            break
    return list(names)


def _outcomes(
    run: Run,
    rows: Iterator[Row],
    predictor: Predictor,
    point: OperatingPoint | None,
    total: int | None,
) -> Iterator[tuple[Row, Outcome]]:
    """Every row with its outcome: the committed ones first, then those of the predictor."""
    rows = _checked(run, rows)
    if run.journal:
        for outcome in run.journal.outcomes():
            row = next(rows, None)
            if row is None:
                if run.stopped:
                    return
                raise InputError(f"{run.source}: has fewer rows than before; add --restart")
            run.kept += 1
            yield row, outcome
    run.listener.begin(run.source, total, run.kept)
    waiting: deque[Row] = deque()
    outcomes = predictor.predict_iter(
        remember(rows, waiting), operating_point=point, errors="return"
    )
    for outcome in outcomes:
        if run.journal:
            run.journal.add(outcome)
        yield waiting.popleft(), outcome


def _checked(run: Run, rows: Iterable[Row]) -> Iterator[Row]:
    """The rows until the run is stopped; refuse a column that the tags would overwrite."""
    added = [name for name in added_names(run.labels) if name != ERROR_COLUMN]
    for row in rows:
        if run.stop():
            run.stopped = True
            return
        if PREDICTED_COLUMN not in row:  # else the tags of an earlier run: they are replaced
            refuse_taken(f"{run.source}:", row, added)
        yield row
