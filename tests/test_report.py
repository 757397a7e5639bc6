"""The report: a page that stands alone, with pictures that show what was measured."""

from __future__ import annotations

import base64
import json
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import LABELS

from studytag import Predictor
from studytag.cli.main import main
from studytag.dataset import load_evaluable
from studytag.evaluation.evaluate import Origin, evaluate
from studytag.labels import LabelSet

pytest.importorskip("matplotlib", reason="pip install 'studytag[report]'")

from studytag.report import figures  # noqa: E402
from studytag.report.page import confident_errors  # noqa: E402

EPOCHS = [
    SimpleNamespace(
        epoch=number,
        best=number < 3,
        train_loss=0.6 / number,
        validation_loss=0.5,
        micro_f1=micro,
        macro_f1=micro - 0.1,
    )
    for number, micro in ((1, 0.5), (2, 0.8), (3, 0.7))
]


@pytest.fixture(scope="module")
def table(exported):
    return load_evaluable(exported.validation, LabelSet(tuple(LABELS)))


@pytest.fixture(scope="module")
def evaluation(exported, table):
    with Predictor(exported.bundle, variant="fp32") as predictor:
        probabilities = predictor.predict_proba(table.rows)
        thresholds = list(predictor.thresholds.values())
    origin = Origin("val.jsonl", "bundle", "fp32", "f1")
    labels = LabelSet(tuple(LABELS))
    return evaluate(
        labels, table.truth, table.known, probabilities, thresholds, origin, table.years()
    )


def test_training_curves_mark_the_epoch_that_was_kept():
    losses, scores = figures.training_curves(EPOCHS).axes
    assert "kept: epoch 2" in [text.get_text() for text in losses.get_legend().get_texts()]
    assert [line.get_label() for line in scores.lines][:2] == ["micro-F1", "macro-F1"]


def test_the_page_stands_alone_and_holds_the_scores(exported, tmp_path, evaluation):
    output = tmp_path / "report"
    flags = ["--bundle", str(exported.bundle), "--variant", "fp32", "--report", str(output)]
    main(["evaluate", str(exported.validation), *flags])
    page = (output / "report.html").read_text(encoding="utf-8")
    assert not re.search(r'(src|href)="(?!data:)', page)
    pictures = {path.name: path.read_bytes() for path in output.glob("*.png")}
    assert set(pictures) == {
        f"{name}.png"
        for name in (
            *("precision-recall", "reliability", "thresholds"),
            *("co-occurrence", "years"),
        )
    }
    embedded = [base64.b64decode(data) for data in re.findall(r"base64,([^\"]+)\"", page)]
    assert sorted(embedded) == sorted(pictures.values())
    assert all(data.startswith(b"\x89PNG") for data in embedded)
    for name in LABELS:
        assert f"<td>{evaluation.scores.labels[name].f1:.3f}</td>" in page
    stored = json.loads((output / "metrics.json").read_text())
    assert stored["scores"] == evaluation.to_dict()["scores"]


@pytest.mark.parametrize("earlier", [False, True])
def test_only_an_earlier_report_is_replaced(exported, tmp_path, capsys, earlier):
    output = tmp_path / "report"
    command = ["evaluate", str(exported.validation), "--bundle", str(exported.bundle)]
    if earlier:
        for _ in range(2):
            main([*command, "--report", str(output)])
    output.mkdir(exist_ok=True)
    (output / "thesis.docx").write_text("years of work")
    before = sorted(output.iterdir())
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main([*command, "--report", str(output)])
    said = capsys.readouterr()
    assert (stop.value.code, said.out) == (2, "")  # nothing was scored
    assert "report holds 'thesis.docx', which no report wrote" in said.err
    assert sorted(output.iterdir()) == before


def test_the_table_and_the_figures_never_lie_in_the_report(exported, tmp_path, capsys):
    output = tmp_path / "report"
    main(
        ["evaluate", str(exported.validation), "--bundle", str(exported.bundle)]
        + ["--report", str(output)]
    )
    table = output / "metrics.json"
    shutil.copyfile(exported.validation, table)
    for flags in ([str(table)], [str(exported.validation), "--output", str(table)]):
        with pytest.raises(SystemExit):
            main(["evaluate", *flags, "--bundle", str(exported.bundle), "--report", str(output)])
        assert "metrics.json lies in" in capsys.readouterr().err
    assert table.read_bytes() == exported.validation.read_bytes()


def test_text_of_articles_is_escaped(exported, tmp_path):
    rows = [json.loads(line) for line in exported.validation.read_text().splitlines()]
    table = tmp_path / "table.jsonl"
    # Whatever the model says of it, one of the two is an error.
    odd = {"pmid": "1", "title": "<script>alert(1)</script> p < 0.05 & more"}
    rows += [odd | {"labels": LABELS}, odd | {"labels": []}]
    table.write_text("\n".join(map(json.dumps, rows)))
    flags = ["--bundle", str(exported.bundle), "--report", str(tmp_path / "report")]
    main(["evaluate", str(table), *flags])
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_errors_are_wrong_known_and_the_most_confident_first(evaluation, table):
    truth, known = evaluation.truth.copy(), evaluation.known.copy()
    order = np.argsort(-evaluation.probabilities[:, 0])
    truth[order[0], 0] = truth[order[1], 0] = False
    known[order[1], 0] = False
    wrong = type(evaluation)(
        **{**vars(evaluation), "truth": truth, "known": known, "thresholds": [0.5] * len(LABELS)}
    )
    errors = confident_errors(wrong, table.rows, count=1000)
    distances = [abs(error.probability - 0.5) for error in errors]
    assert distances == sorted(distances, reverse=True)
    assert all((error.probability >= 0.5) != error.truth for error in errors)
    first = [error.pmid for error in errors if error.label == LABELS[0]]
    assert table.rows[order[0]]["pmid"] in first
    assert table.rows[order[1]]["pmid"] not in first


def test_co_occurrence_by_hand():
    cells = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 0]], dtype=bool)
    known = np.array([[1, 1, 1], [1, 1, 0], [1, 0, 1]], dtype=bool)
    shares = figures._shares(cells, known)
    assert shares[0].tolist() == [1, 0.5, 0]  # of the second column two are known, one is yes
    assert shares[1].tolist() == [1, 1, 0]
    assert np.isnan(shares[2]).all()


def test_a_label_without_both_answers_still_has_its_panel(evaluation):
    truth = evaluation.truth.copy()
    truth[:, 1] = False
    alike = type(evaluation)(**{**vars(evaluation), "truth": truth})
    (text,) = figures.reliability(alike).axes[1].texts
    assert text.get_text() == "all known articles are\npositive, or all negative"


@given(
    st.lists(st.integers(0, 60), min_size=1, max_size=15),
    st.integers(1, 40),
)
def test_no_bin_of_a_reliability_diagram_is_too_small(counts, minimum):
    bins = np.array([counts, np.array(counts) * 0.5, np.array(counts) // 3], dtype=float)
    merged = figures.merged_bins(bins, minimum)
    assert merged.sum(axis=1) == pytest.approx(bins.sum(axis=1))
    if sum(counts) >= minimum:
        assert (merged[0] >= minimum).all()
    else:
        assert merged.shape == (3, 1)
