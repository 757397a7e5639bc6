"""Screening a file: tags every record, keeps some, sets the others aside, and reports."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from studytag.errors import CellTooLongError
from studytag.evaluation.bootstrap import wilson_interval
from studytag.evaluation.scores import LabelScores
from studytag.files import ERROR_COLUMN, RowWriter
from studytag.inference.files import Options, tag_file
from studytag.inference.predictor import Predictor
from studytag.inference.progress import Listener
from studytag.inference.screening import (
    DROP_POINT,
    Criteria,
    Decision,
    Rule,
    open_screened,
    set_aside_path,
)
from studytag.inference.screening_report import Screening, Share, Side, Tagger
from studytag.manifest import Variant
from studytag.records import Row
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
    `NAME.set-aside.ext` beside it. Every record is in exactly one of the two, with its tags, or
    with a note where it could not be assessed. A run that ends early goes on as that of
    `predict_file` does.

    Args:
        predictor: Tags the records, at its operating point; labels to drop at `DROP_POINT`, or at
            that where it is stricter.
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
    criteria = criteria_of(predictor, rule, list(predictor.thresholds.values()))
    screening = Screening(rule)

    @contextmanager
    def open_divided(*arguments: Any, **writing: Any) -> Iterator[Divided]:
        with open_screened(*arguments, **writing) as writers:
            yield Divided(criteria, screening, writers)

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


def criteria_of(predictor: Predictor, rule: Rule, keep: Sequence[float]) -> Criteria:
    """What a predictor's records are screened by.

    Args:
        predictor: Has the labels, and the thresholds of `DROP_POINT`.
        rule: What is kept.
        keep: Thresholds of the labels that are not dropped, in label order.

    Raises:
        InputError: the rule names a label that the bundle does not have, or drops one and the
            bundle has no `DROP_POINT`.
    """
    rule.check(predictor.labels)
    drop = _drop_thresholds(predictor, keep) if rule.drop else keep
    return Criteria(rule, predictor.label_set, keep, drop)


def _drop_thresholds(predictor: Predictor, keep: Sequence[float]) -> list[float]:
    """Those of `DROP_POINT`, or of what is kept where they are stricter.

    Raises:
        InputError: the bundle has no `DROP_POINT`.
    """
    precise = predictor.manifest.thresholds(predictor.variant, DROP_POINT)
    return [max(pair) for pair in zip(precise, keep, strict=True)]


class Divided:
    """Takes tagged rows for the outputs of a screening, and counts them once they are written.

    Args:
        criteria: Decide on each row.
        screening: Counts them.
        writers: By decision; rows of another decision are written nowhere.
    """

    def __init__(
        self, criteria: Criteria, screening: Screening, writers: Mapping[Decision, RowWriter]
    ) -> None:
        self._criteria = criteria
        self._screening = screening
        self._writers = writers

    def begin(self, row: Row) -> None:
        """Tell all outputs the columns."""
        for writer in self._writers.values():
            writer.begin(row)

    def write(self, row: Row) -> None:
        """Write a row to the output where it belongs.

        Raises:
            InputError: as that output.
        """
        if not self._screening.records:
            self.begin(row)  # one of the outputs may get no row
        row, decision, reason = self._criteria.screen(row)
        if decision in self._writers:
            _write(self._writers[decision], row)
        self._screening.count(row, decision, reason)


def _write(writer: RowWriter, row: Row) -> None:
    """Write a row; a note too long for a cell, which an error became that fitted, is cut."""
    try:
        writer.write(row)
    except CellTooLongError as refusal:
        note = row[ERROR_COLUMN] or ""
        writer.write(row | {ERROR_COLUMN: refusal.cut(note) or None})


def describe_tagger(predictor: Predictor) -> Tagger:
    """What decides, for a report: version, bundle, thresholds, and what was measured at them."""
    manifest, variant = predictor.manifest, predictor.manifest.variants[predictor.variant]
    keep = predictor.thresholds
    # Thresholds of the caller's own were measured by nobody.
    stored = manifest.thresholds(predictor.variant, predictor.operating_point)
    own = stored != list(keep.values())
    at_keep = {} if own else _scores(variant, predictor.operating_point)
    recall = {label: _share(entry.recall, entry.support) for label, entry in at_keep.items()}
    drop, precision = {}, {}
    if DROP_POINT in variant.thresholds:  # a bundle that lacks the point can drop nothing
        drop = dict(zip(keep, _drop_thresholds(predictor, list(keep.values())), strict=True))
        at_drop = _scores(variant, DROP_POINT)
        for label, precise in zip(keep, variant.thresholds[DROP_POINT], strict=True):
            entry = (at_drop if drop[label] == precise else at_keep).get(label)
            if entry and entry.precision:
                tagged = entry.recall * entry.support / entry.precision
                precision[label] = _share(entry.precision, tagged)
    return Tagger(
        version=__version__,
        bundle=predictor.bundle_sha256,
        keep=Side(predictor.operating_point, keep, recall),
        drop=Side(DROP_POINT, drop, precision),
        measured_on=manifest.measured_on,
    )


def _scores(variant: Variant, point: str) -> dict[str, LabelScores]:
    """The labels that were scored at an operating point, on articles some of which have them."""
    if point not in variant.scores:
        return {}
    return {name: each for name, each in variant.scores[point].labels.items() if each.support}


def _share(value: float, trials: float) -> Share:
    return Share(value, *wilson_interval(value * trials, trials))
