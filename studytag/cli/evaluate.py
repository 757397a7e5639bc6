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
        StudytagError: the table, the bundle or the model is unusable, or an output cannot be
            written.
    """
    if options.report is not None:
        import_extra("studytag.report.page", "report")  # a missing package is named at once
    if options.model is not None and options.bundle is not None:
        raise InputError("give --bundle or --model, not both")
    scored = _score_model(options) if options.model is not None else _score_bundle(options)
    evaluation, table, manifest, folder = scored
    if options.output is not None:
        write_json_atomically(options.output, evaluation.to_dict())
    if options.report is not None:
        _write_report(options, evaluation, table, manifest, folder)
    show(evaluation.markdown())


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
) -> None:
    from studytag.report.page import write_report

    epochs = []
    if options.training is not None:
        from studytag.training.history import read_history

        epochs = read_history(options.training)
    page = write_report(evaluation, table.rows, manifest, folder, epochs, options.report)
    logger.info("report: %s", page)
