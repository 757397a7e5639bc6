"""`studytag evaluate`: score a bundle or a model folder on a labelled table."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from studytag.cli.options import add_predictor_arguments, load_predictor
from studytag.cli.terminal import show
from studytag.dataset import LabelledTable, load_evaluable
from studytag.errors import InputError, import_extra
from studytag.files import write_json_atomically
from studytag.labels import LabelSet
from studytag.manifest import Manifest

if TYPE_CHECKING:
    from studytag.evaluation.evaluate import Evaluation
    from studytag.evaluation.robustness import Robustness
    from studytag.training.history import EpochRecord

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.set_defaults(run=run)
    parser.add_argument("table", type=Path, help="labelled, such as data/processed/test.parquet")
    parser.add_argument(
        "--model", type=Path, help="score this model folder by PyTorch instead of a bundle"
    )
    parser.add_argument("--output", type=Path, help="also write the figures to this JSON file")
    parser.add_argument("--report", type=Path, metavar="FOLDER", help="also write a page there")
    parser.add_argument(
        "--run",
        dest="training",
        type=Path,
        metavar="FOLDER",
        help="training run whose history the page shows",
    )
    parser.add_argument(
        "--robustness",
        action="store_true",
        help="also score by source, by text length, and without rare words; predicts twice",
    )
    add_predictor_arguments(parser)


def run(options: argparse.Namespace) -> None:
    """Print the scores; write what the options ask for.

    Raises:
        StudytagError: the table, the bundle or the model is unusable, an option would be ignored,
            or an output cannot be written or would replace something else.
    """
    from studytag.outputs import reserved

    _refuse_ignored(options)
    epochs = _prepare_report(options) if options.report is not None else []
    with reserved(options.output, [options.table]):
        scored = _score_model(options) if options.model is not None else _score_bundle(options)
        evaluation, table, manifest, folder = scored
        try:
            if options.output is not None:
                write_json_atomically(options.output, evaluation.to_dict())
            if options.report is not None:
                _write_report(options, evaluation, table, manifest, folder, epochs)
        finally:  # what was computed is shown also where it cannot be written
            show(evaluation.markdown())


def _refuse_ignored(options: argparse.Namespace) -> None:
    """Refuse what would be ignored: nobody may rely on a signature that was not looked at.

    Raises:
        InputError: an option for bundles stands beside `--model`, or `--run` without `--report`.
    """
    if options.training is not None and options.report is None:
        raise InputError("--run is for the page of --report FOLDER; add that, or leave it out")
    if options.model is None:
        return
    of_bundles = argparse.ArgumentParser()
    add_predictor_arguments(of_bundles)
    ignored = [
        f"--{name.replace('_', '-')}"
        for name, default in vars(of_bundles.parse_args([])).items()
        if name != "operating_point" and getattr(options, name) != default
    ]
    if ignored:
        raise InputError(
            f"{', '.join(ignored)}: only for a bundle, which --model is not; leave out the one or "
            "the other"
        )


def _prepare_report(options: argparse.Namespace) -> list[EpochRecord]:
    """The epochs that the page shows, once its packages, its place and the run have been checked.

    Raises:
        StudytagError: one of these is missing, or the place holds something else.
    """
    import_extra("studytag.report.page", "report")  # a missing package is named at once
    from studytag.report.folder import refuse_foreign_report
    from studytag.training.history import HISTORY, read_history

    kept = [options.table] if options.output is None else [options.table, options.output]
    refuse_foreign_report(options.report, kept)
    if options.training is None:
        return []
    epochs = read_history(options.training)
    if not epochs:
        raise InputError(
            f"{options.training}: holds no epoch of a run in {HISTORY}; name the folder that "
            "training wrote"
        )
    return epochs


_Cells = tuple[LabelSet, NDArray[np.bool_], NDArray[np.bool_], NDArray[np.float32], Sequence[float]]
_Scored = tuple["Evaluation", LabelledTable, Manifest, Path]


def _score_bundle(options: argparse.Namespace) -> _Scored:
    with load_predictor(options) as predictor:
        table = load_evaluable(options.table, predictor.label_set)
        return _evaluate(
            options,
            predictor.manifest,
            predictor.path,
            predictor.variant,
            table,
            predictor.predict_proba,
        )


def _score_model(options: argparse.Namespace) -> _Scored:
    model_folder = import_extra("studytag.training.model_folder", "train")
    trained = model_folder.load_model_folder(options.model)
    manifest = trained.manifest
    table = load_evaluable(options.table, manifest.labels)
    return _evaluate(
        options,
        manifest,
        options.model,
        model_folder.PYTORCH,
        table,
        partial(model_folder.torch_probabilities, trained),
    )


def _evaluate(
    options: argparse.Namespace,
    manifest: Manifest,
    folder: Path,
    variant: str,
    table: LabelledTable,
    predict: Callable[[list[str]], NDArray[np.float32]],
) -> _Scored:
    from studytag.evaluation.evaluate import Origin, evaluate

    texts = manifest.text_recipe.compose_records(table.rows)
    thresholds = manifest.thresholds(variant, options.operating_point)
    cells = (manifest.labels, table.truth, table.known, predict(texts), thresholds)
    evaluation = evaluate(
        *cells,
        Origin(str(options.table), str(folder), variant, options.operating_point),
        table.years(),
        _robustness(cells, table, texts, predict) if options.robustness else None,
    )
    return evaluation, table, manifest, folder


def _robustness(
    cells: _Cells,
    table: LabelledTable,
    texts: list[str],
    predict: Callable[[list[str]], NDArray[np.float32]],
) -> Robustness:
    from studytag.evaluation import robustness
    from studytag.evaluation.metrics import score

    labels, truth, known, _, thresholds = cells
    lengths = robustness.length_classes(texts)
    masked = predict(robustness.without_topic_words(texts))
    return robustness.Robustness(
        robustness.score_groups(*cells, table.sources()),
        {
            robustness.length_name(index): scores
            for index, scores in robustness.score_groups(*cells, lengths).items()
        },
        score(labels, truth, known, masked, thresholds),
    )


def _write_report(
    options: argparse.Namespace,
    evaluation: Evaluation,
    table: LabelledTable,
    manifest: Manifest,
    folder: Path,
    epochs: Sequence[EpochRecord],
) -> None:
    from studytag.report.page import write_report

    page = write_report(evaluation, table.rows, manifest, folder, epochs, options.report)
    logger.info("report: %s", page)
