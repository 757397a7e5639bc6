"""Screening a file: tags every record, keeps some, sets the others aside, and reports."""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path
from typing import Any

from studytag.errors import InputError
from studytag.evaluation.bootstrap import wilson_interval
from studytag.files import read_rows, tagged
from studytag.hashing import sha256
from studytag.inference.inputs import remember
from studytag.inference.output import added_columns
from studytag.inference.predictor import Predictor
from studytag.inference.screening import (
    Recall,
    Rule,
    Screening,
    Tagger,
    open_screened,
    set_aside_path,
)
from studytag.manifest import MANIFEST
from studytag.records import Row
from studytag.version import __version__


def screen_file(
    predictor: Predictor,
    source: Path,
    target: Path,
    rule: Rule,
    *,
    source_format: str | None = None,
    target_format: str | None = None,
    **writing: Any,
) -> Screening:
    """Tag a file and divide its records; both outputs appear when they are complete.

    Records that match the rule, and those that cannot be judged, go to `target`; the others go to
    `NAME.set-aside.ext` beside it. Every record is in exactly one of the two, with its tags.

    Args:
        predictor: Tags the records, at its operating point.
        source: Any file that `read_rows` reads.
        target: Any file that `open_writer` writes.
        rule: What is kept.
        source_format: Of `source`, where its suffix does not say it.
        target_format: Of `target`, where its suffix does not say it.
        **writing: As of `open_writer`.

    Raises:
        InputError: the rule names a label that the bundle does not have, a file cannot be read or
            written, or an output is the input.
    """
    rule.check(predictor.labels)
    for output in (target, set_aside_path(target)):
        if os.path.realpath(source) == os.path.realpath(output):
            raise InputError(f"{output}: is the input itself; name another output")
    screening = Screening(rule)
    waiting: deque[Row] = deque()
    rows = read_rows(source, source_format, refuse_ignored_text=True)
    outcomes = predictor.predict_iter(remember(rows, waiting), errors="return")
    with open_screened(target, target_format, **writing) as writers:
        for outcome in outcomes:
            row = waiting.popleft()
            error = str(outcome) if isinstance(outcome, InputError) else None
            labels = None if isinstance(outcome, InputError) else outcome.labels
            decision = screening.decide(row, labels)
            writers[decision].write(tagged(row, added_columns(predictor.labels, outcome, error)))
    return screening


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
        measured_on="the articles that the bundle's thresholds were tuned on",
    )
