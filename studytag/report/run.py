"""What a finished training run says of itself: the report on its validation table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from studytag.bundle import DEFAULT_OPERATING_POINT, TOKENIZER
from studytag.evaluation.evaluate import assess
from studytag.evaluation.split import load_judged
from studytag.labels import LabelSet
from studytag.records import TextRecipe, probability_column
from studytag.report.page import Reader, write_report
from studytag.training.runs import read_history


def report_on_run(run: Path, validation: Path) -> Path:
    """Write `report/` into a run's folder, about its best model on its validation table.

    Args:
        run: Holds `best/` and `history.json`.
        validation: The table that the model was selected and tuned on.

    Returns:
        The page's path.

    Raises:
        InputError: the table is not readable any more, or the folder cannot be written.
    """
    best = run / "best"
    origin = json.loads((best / "training.json").read_text("utf-8"))
    points = json.loads((best / "thresholds.json").read_text("utf-8"))["operating_points"]
    labels = LabelSet(tuple(origin["labels"]))
    stored = pq.read_table(best / "validation.parquet")
    probabilities = np.column_stack(
        [stored[probability_column(label)].to_numpy() for label in labels]
    )
    evaluation = assess(
        labels,
        load_judged(validation, labels),
        probabilities,
        points[DEFAULT_OPERATING_POINT],
        {
            "table": str(validation),
            "variant": "pytorch",
            "operating_point": DEFAULT_OPERATING_POINT,
        },
    )
    reader = Reader(
        origin["encoder"],
        origin["max_length"],
        TextRecipe.from_dict(origin["text_recipe"]),
        best / TOKENIZER,
    )
    return write_report(evaluation, reader, read_history(run), run / "report", fitted_here=True)
