"""Screening a file: tags every record, keeps some, sets the others aside, and reports."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from studytag.evaluation.bootstrap import wilson_interval
from studytag.files import RowWriter
from studytag.hashing import sha256
from studytag.inference.files import Options, tag_file
from studytag.inference.predictor import Predictor
from studytag.inference.progress import Listener
from studytag.inference.screening import (
    Decision,
    Recall,
    Rule,
    Screening,
    Tagger,
    open_screened,
    set_aside_path,
)
from studytag.manifest import MANIFEST
from studytag.records import PREDICTED_COLUMN, Row
from studytag.version import __version__


def screen_file(
    predictor: Predictor,
    source: str | Path,
    target: str | Path,
    rule: Rule,
    *,
    source_format: str | None = None,
    target_format: str | None = None,
    options: Options | None = None,
    stop: Callable[[], bool] | None = None,
    progress: bool | Listener = True,
) -> Screening:
    """Tag a file and divide its records; both outputs appear when they are complete.

    Records that match the rule, and those that cannot be assessed, go to `target`; the others go to
    `NAME.set-aside.ext` beside it. Every record is in exactly one of the two, with its tags. A run
    that ends early goes on as that of `predict_file` does.

    Args:
        predictor: Tags the records, at its operating point.
        source: Any file that `studytag.files.read_rows` reads.
        target: Any file that `studytag.files.open_writer` writes.
        rule: What is kept.
        source_format: As in `predict_file`, like all that follow.
        target_format: Of both outputs.
        options: All else.
        stop: Whether to end early.
        progress: Who hears of the progress.

    Raises:
        InputError: as `predict_file`, or the rule names a label that the bundle does not have.
        StorageError: as `predict_file`.
        StoppedError: as `predict_file`.
    """
    rule.check(predictor.labels)
    screening = Screening(rule)

    @contextmanager
    def open_divided(*arguments: Any, **writing: Any) -> Iterator[_Divided]:
        with open_screened(*arguments, **writing) as writers:
            yield _Divided(screening, writers)

    target = Path(target)
    tag_file(
        predictor,
        Path(source),
        [target, set_aside_path(target)],
        open_divided,
        source_format=source_format,
        target_format=target_format,
        options=options,
        stop=stop,
        progress=progress,
    )
    return screening


class _Divided:
    """Takes tagged rows for the two outputs, and counts them once they are written."""

    def __init__(self, screening: Screening, writers: Mapping[Decision, RowWriter]) -> None:
        self._screening = screening
        self._writers = writers

    def begin(self, row: Row) -> None:
        for writer in self._writers.values():
            writer.begin(row)

    def write(self, row: Row) -> None:
        if not self._screening.records:
            self.begin(row)  # one of the outputs may get no row
        decision, reason = self._screening.rule.decide(row, row[PREDICTED_COLUMN])
        self._writers[decision].write(row)
        self._screening.count(row, decision, reason)


def describe_tagger(predictor: Predictor) -> Tagger:
    """What decided, for a report: version, bundle, thresholds, and the recall that was measured."""
    variant = predictor.manifest.variants[predictor.variant]
    scores = variant.scores.get(predictor.operating_point)
    stored = predictor.manifest.thresholds(predictor.variant, predictor.operating_point)
    recall = {}
    # Thresholds of the caller's own were measured by nobody.
    if scores is not None and stored == list(predictor.thresholds.values()):
        for label, entry in scores.labels.items():
            if entry.support:
                low, high = wilson_interval(entry.recall * entry.support, entry.support)
                recall[label] = Recall(entry.recall, low, high)
    return Tagger(
        version=__version__,
        bundle=sha256(predictor.path / MANIFEST),
        operating_point=predictor.operating_point,
        thresholds=predictor.thresholds,
        recall=recall,
        measured_on=predictor.manifest.measured_on,
    )
