"""The report: a page that stands alone, with pictures that show what was measured."""

from __future__ import annotations

import base64
import json
import re

import numpy as np
import pytest
from conftest import LABELS

from studytag import Predictor
from studytag.cli import main
from studytag.evaluation.evaluate import evaluate

pytest.importorskip("matplotlib", reason="pip install 'studytag[report]'")

from studytag.report import figures  # noqa: E402
from studytag.report.page import confident_errors  # noqa: E402

EPOCHS = [
    {
        "epoch": number,
        "best": number < 3,
        "train_loss": 0.6 / number,
        "validation/loss": 0.5,
        "validation/micro_f1/micro/f1": micro,
        "validation/micro_f1/macro/f1": micro - 0.1,
    }
    for number, micro in ((1, 0.5), (2, 0.8), (3, 0.7))
]


@pytest.fixture(scope="module")
def evaluation(exported):
    with Predictor.from_pretrained(exported.bundle, "fp32") as predictor:
        return evaluate(predictor, exported.validation)


def test_the_page_stands_alone_and_holds_the_scores(exported, tmp_path, evaluation):
    run = tmp_path / "model"
    run.mkdir()
    (run / "history.json").write_text(json.dumps({"epochs": EPOCHS}))
    output = tmp_path / "report"
    flags = ["--bundle", str(exported.bundle), "--run", str(run), "--output", str(output)]
    main(["report", str(exported.validation), "--variant", "fp32", *flags])
    page = (output / "report.html").read_text(encoding="utf-8")
    assert not re.search(r'(src|href)="(?!data:)', page)
    pictures = {path.name: path.read_bytes() for path in output.glob("*.png")}
    assert set(pictures) == {
        f"{name}.png"
        for name in (
            *("training", "precision-recall", "reliability", "thresholds"),
            *("co-occurrence", "years"),
        )
    }
    embedded = [base64.b64decode(data) for data in re.findall(r"base64,([^\"]+)\"", page)]
    assert sorted(embedded) == sorted(pictures.values())
    assert all(data.startswith(b"\x89PNG") for data in embedded)
    for name in LABELS:
        assert f"<td>{evaluation.summary['tuned']['labels'][name]['f1']:.3f}</td>" in page
    stored = json.loads((output / "metrics.json").read_text())
    assert stored["tuned"] == evaluation.summary["tuned"]


def test_text_of_articles_is_escaped(exported, tmp_path):
    rows = [json.loads(line) for line in exported.validation.read_text().splitlines()]
    table = tmp_path / "table.jsonl"
    # Whatever the model says of it, one of the two is an error.
    odd = {"pmid": "1", "title": "<script>alert(1)</script> p < 0.05 & more"}
    rows += [odd | {"labels": LABELS}, odd | {"labels": []}]
    table.write_text("\n".join(map(json.dumps, rows)))
    flags = ["--bundle", str(exported.bundle), "--output", str(tmp_path / "report")]
    main(["report", str(table), *flags])
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_errors_are_wrong_known_and_the_most_confident_first(evaluation):
    truth, known = evaluation.truth.copy(), evaluation.known.copy()
    order = np.argsort(-evaluation.probabilities[:, 0])
    truth[order[0], 0] = truth[order[1], 0] = False
    known[order[1], 0] = False
    wrong = type(evaluation)(
        **{**vars(evaluation), "truth": truth, "known": known, "thresholds": [0.5] * len(LABELS)}
    )
    found = confident_errors(wrong, count=1000)
    distances = [abs(error["probability"] - 0.5) for error in found]
    assert distances == sorted(distances, reverse=True)
    assert all((error["probability"] >= 0.5) != error["truth"] for error in found)
    first = [error["pmid"] for error in found if error["label"] == LABELS[0]]
    assert evaluation.articles[order[0]]["pmid"] in first
    assert evaluation.articles[order[1]]["pmid"] not in first


def test_co_occurrence_by_hand():
    cells = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 0]], dtype=bool)
    known = np.array([[1, 1, 1], [1, 1, 0], [1, 0, 1]], dtype=bool)
    shares = figures._shares(cells, known)
    assert shares[0].tolist() == [1, 0.5, 0]  # of the second column two are known, one is yes
    assert shares[1].tolist() == [1, 1, 0]
    assert np.isnan(shares[2]).all()


def test_a_label_with_one_answer_only_still_has_its_panel(evaluation):
    truth = evaluation.truth.copy()
    truth[:, 1] = False
    alike = type(evaluation)(**{**vars(evaluation), "truth": truth})
    figure = figures.reliability(alike)
    assert [text.get_text() for text in figure.axes[1].texts] == ["all known articles\nare alike"]
