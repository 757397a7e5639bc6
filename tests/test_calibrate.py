"""A bundle fitted to another place: labelled articles, a stated and an estimated prevalence."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from support import LABELS, edit_manifest, handmade_bundle, invented_articles

from studytag import Predictor, load_manifest
from studytag.cli.main import main
from studytag.dataset import table_hash
from studytag.evaluation.prevalence import estimate_prevalence, logit, prevalence_offset
from studytag.export.recalibration import recalibrate
from studytag.inference.screen_file import describe_tagger

RCT = LABELS.index("RCT")


@pytest.fixture(scope="module")
def articles():
    return invented_articles(600, seed=3)


@pytest.fixture(scope="module")
def probabilities(exported, articles):
    with Predictor(exported.bundle, variant="fp32") as predictor:
        return predictor.predict_proba(articles)


def write_table(path, articles, truth):
    with path.open("w", encoding="utf-8") as stream:
        for article, row in zip(articles, truth, strict=True):
            labels = [label for label, present in zip(LABELS, row, strict=True) if present]
            stream.write(json.dumps(article | {"labels": labels}) + "\n")
    return path


def test_labelled_articles_refit_calibration_and_thresholds(
    exported, articles, probabilities, tmp_path
):
    """Where the truth follows another line through the logits, that line is found."""
    true = 1 / (1 + np.exp(-(0.5 * logit(probabilities) - 1)))
    truth = np.random.default_rng(0).random(true.shape) < true
    table = write_table(tmp_path / "mine.jsonl", articles, truth)
    output = tmp_path / "bundle"
    main(["calibrate", str(exported.bundle), "--labelled", str(table), "--output", str(output)])
    with Predictor(output, variant="fp32") as predictor:
        refitted = predictor.predict_proba(articles)
    assert np.abs(refitted - true).mean() < 0.03 < np.abs(probabilities - true).mean()
    before, after = load_manifest(exported.bundle), load_manifest(output)
    changed = {name for name in after.files if after.files[name] != before.files[name]}
    assert changed == {"config.json"}  # which repeats the thresholds; the graphs are the same
    shown = json.loads((output / "config.json").read_text())["studytag"]["thresholds"]["fp32"]["f1"]
    raw, thresholds = probabilities[:, RCT], after.variants["fp32"].thresholds["f1"]
    decided = refitted[:, RCT] >= thresholds[RCT]
    assert ((raw >= shown["RCT"]) == decided).mean() > 0.999  # for those who run the graph alone
    assert 0 < decided.sum() < len(decided)
    assert after.variants["fp32"].thresholds != before.variants["fp32"].thresholds
    provenance = after.training["recalibrated"]
    assert (provenance["table"], provenance["articles"]) == ("mine.jsonl", 600)
    assert provenance["hash"] == table_hash(table)
    assert after.prevalence["RCT"] == pytest.approx(truth[:, RCT].mean())


def test_the_card_of_a_calibrated_bundle_says_whose_figures_it_has(exported, tmp_path):
    bundle = shutil.copytree(exported.bundle, tmp_path / "bundle")
    (bundle / "README.md").write_text("---\nlicense: mit\n---\n\n# Mine\n", encoding="utf-8")
    for number in (1, 2):
        output = tmp_path / f"calibrated-{number}"
        main(["calibrate", str(bundle), "--prevalence", "RCT=0.02", "--output", str(output)])
        card = (output / "README.md").read_text(encoding="utf-8")
        head, body = card.removeprefix("---\n").split("---\n")
        assert head == "license: mit\n"
        assert body.count("Calibrated anew since") == 1
        assert body.endswith("# Mine\n")
        bundle = output


def test_articles_that_the_model_learned_from_are_said(exported, articles, tmp_path, caplog):
    truth = np.random.default_rng(0).random((600, len(LABELS))) < 0.5
    table = write_table(tmp_path / "train.jsonl", articles, truth)
    bundle = shutil.copytree(exported.bundle, tmp_path / "bundle")
    edit_manifest(bundle, training={"tables": {"train": {"hash": table_hash(table)}}})
    recalibrate(bundle, table, tmp_path / "mine")
    assert f"{table}: the model learned from these articles" in caplog.text
    assert "they say nothing of others" in load_manifest(tmp_path / "mine").scores_note


def test_a_label_with_too_few_articles_stays_as_it_was(exported, articles, tmp_path, caplog):
    truth = np.zeros((40, len(LABELS)), dtype=bool)
    truth[:20, 0] = True
    truth[:3, RCT] = True
    table = write_table(tmp_path / "mine.jsonl", articles[:40], truth)
    output = tmp_path / "bundle"
    main(["calibrate", str(exported.bundle), "--labelled", str(table), "--output", str(output)])
    for name, variant in load_manifest(output).variants.items():
        earlier = load_manifest(exported.bundle).variants[name]
        assert "RCT" not in variant.adjustment.slope
        assert variant.thresholds["f1"][RCT] == earlier.thresholds["f1"][RCT]
        for scores in variant.scores.values():  # nobody tuned its thresholds on these articles
            assert [name for name, each in scores.labels.items() if each.support] == LABELS[:1]
    with Predictor(output, operating_point="sensitive") as predictor:
        assert describe_tagger(predictor).keep.measured.keys() == {LABELS[0]}
    before, after = load_manifest(exported.bundle).prevalence, load_manifest(output).prevalence
    assert after == before | {LABELS[0]: 0.5}  # that of the others is their calibration's
    assert "RCT keeps its calibration: too few known articles" in caplog.text


def test_labelled_articles_that_change_nothing_are_refused(exported, articles, tmp_path, capsys):
    table = write_table(
        tmp_path / "mine.jsonl", articles[:1], np.ones((1, len(LABELS)), dtype=bool)
    )
    command = ["calibrate", str(exported.bundle), "--labelled", str(table)]
    with pytest.raises(SystemExit):
        main([*command, "--output", str(tmp_path / "bundle")])
    assert (
        "mine.jsonl: fits no label anew; each needs at least 10 articles" in capsys.readouterr().err
    )
    assert [path.name for path in tmp_path.iterdir()] == ["mine.jsonl"]


def test_labels_that_contradict_the_ranking_are_named_as_that(
    exported, articles, probabilities, tmp_path, caplog
):
    truth = np.zeros((600, len(LABELS)), dtype=bool)
    truth[:300, 0] = True
    truth[:, RCT] = probabilities[:, RCT] < np.median(probabilities[:, RCT])
    table = write_table(tmp_path / "mine.jsonl", articles, truth)
    output = str(tmp_path / "bundle")
    main(["calibrate", str(exported.bundle), "--labelled", str(table), "--output", output])
    assert "RCT keeps its calibration: these labels contradict its ranking" in caplog.text


def test_a_stated_prevalence_moves_the_odds_and_keeps_recall(
    exported, articles, probabilities, tmp_path
):
    output = tmp_path / "bundle"
    command = ["calibrate", str(exported.bundle), "--prevalence", "RCT=0.02"]
    main([*command, "--output", str(output)])
    before = load_manifest(exported.bundle).prevalence["RCT"]
    factor = (0.02 / 0.98) / (before / (1 - before))
    with Predictor(output, variant="fp32", operating_point="sensitive") as predictor:
        moved = predictor.predict_proba(articles)
        tagged = predictor.predict(articles)
    odds, moved_odds = (np.exp(logit(values[:, RCT])) for values in (probabilities, moved))
    assert moved_odds == pytest.approx(odds * factor, rel=1e-3)
    others = [index for index in range(len(LABELS)) if index != RCT]
    assert np.array_equal(moved[:, others], probabilities[:, others])
    with Predictor(exported.bundle, variant="fp32", operating_point="sensitive") as predictor:
        expected = predictor.predict(articles)
    assert [p.labels for p in tagged] == [p.labels for p in expected]  # recall is kept
    assert load_manifest(output).training["prevalence"]["stated"] == {"RCT": 0.02}


def test_prevalence_is_estimated_from_articles_without_labels():
    """Draw from a known label shift: 30 % positives where the model was calibrated, 4 % here."""
    rng = np.random.default_rng(0)
    n, before, after = 20_000, 0.3, 0.04
    truth = rng.random(n) < after
    evidence = rng.normal(np.where(truth, 1.5, -1.5), 1.5)  # log-likelihood ratio 2/1.5 * x
    calibrated = 1 / (1 + np.exp(-(2 / 1.5 * evidence + np.log(before / (1 - before)))))
    estimate = estimate_prevalence(calibrated[:, None], np.array([before]))
    assert estimate[0] == pytest.approx(after, abs=0.01)
    offset = prevalence_offset(np.array([before]), estimate)
    moved = 1 / (1 + np.exp(-(logit(calibrated) + offset[0])))
    assert moved.mean() == pytest.approx(truth.mean(), abs=0.01)


def test_the_command_estimates_and_shifts(exported, articles, tmp_path, capsys):
    source = tmp_path / "mine.jsonl"
    rows = [*articles[:60], {"title": "\u200b"}]  # of which the tokenizer leaves nothing
    source.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    output = tmp_path / "bundle"
    command = ["calibrate", str(exported.bundle), "--unlabelled", str(source)]
    main([*command, "--output", str(output)])
    printed = capsys.readouterr().out
    assert [line.split(":")[0] for line in printed.splitlines()] == LABELS
    assert load_manifest(output).training["prevalence"]["stated"].keys() == set(LABELS)


def test_a_handful_of_articles_is_no_estimate(exported, articles, tmp_path, capsys):
    source = tmp_path / "mine.jsonl"
    rows = [*articles[:49], {"title": None, "abstract": ""}]
    source.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    command = ["calibrate", str(exported.bundle), "--unlabelled", str(source)]
    with pytest.raises(SystemExit) as stop:
        main([*command, "--output", str(tmp_path / "bundle")])
    assert stop.value.code == 2
    assert (
        "49 articles with a title or an abstract; an estimate needs 50" in capsys.readouterr().err
    )
    assert list(tmp_path.iterdir()) == [source]


def test_shares_agree_with_what_labels_imply(exported_field, tmp_path, capsys):
    manifest = load_manifest(exported_field.bundle)
    ((label, (implied,)),) = manifest.labels.implications.items()
    command = ["calibrate", str(exported_field.bundle)]
    output = ["--output", str(tmp_path / "bundle")]
    with pytest.raises(SystemExit):
        main([*command, "--prevalence", f"{label}=0.6", f"{implied}=0.1", *output])
    message = f"prevalence of {label} (0.6) is above that of {implied} (0.1)"
    assert message in capsys.readouterr().err
    for stated in (f"{label}=0.99", f"{implied}=0.001"):  # the other one's stays as it is
        with pytest.raises(SystemExit):
            main([*command, "--prevalence", stated, *output])
        assert f"is above that of {implied}" in capsys.readouterr().err
    source = tmp_path / "mine.jsonl"
    source.write_text("\n".join(map(json.dumps, exported_field.articles)), encoding="utf-8")
    main([*command, "--unlabelled", str(source), *output])
    stated = load_manifest(tmp_path / "bundle").training["prevalence"]["stated"]
    assert stated[label] <= stated[implied]


@pytest.mark.parametrize(
    ("share", "message"),
    [
        ("Trial=0.1", "unknown label 'Trial'"),
        ("RCT=2", "prevalence of RCT must be between 0 and 1"),
        ("RCT", "write LABEL=SHARE"),
        ("RCT=0.5 RCT=0.02", "RCT has a share already"),
    ],
)
def test_a_wrong_prevalence_is_refused(exported, tmp_path, capsys, share, message):
    command = ["calibrate", str(exported.bundle), "--prevalence", *share.split()]
    with pytest.raises(SystemExit) as stop:
        main([*command, "--output", str(tmp_path / "bundle")])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_label_may_have_an_equals_sign_in_its_name(tmp_path):
    bundle, output = handmade_bundle(tmp_path / "bundle"), tmp_path / "mine"
    labels = ["p=q", *LABELS[1:]]
    edit_manifest(bundle, labels=labels, implications={}, prevalence={"p=q": 0.1})
    main(["calibrate", str(bundle), "--prevalence", "p=q=0.02", "--output", str(output)])
    assert load_manifest(output).prevalence == {"p=q": 0.02}


def test_the_place_is_looked_at_before_anything_is_computed(exported, tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    command = ["calibrate", str(exported.bundle), "--unlabelled", str(tmp_path / "not there.csv")]
    with pytest.raises(SystemExit):
        main([*command, "--output", str(tmp_path)])
    assert "holds 'notes.txt', which no export wrote" in capsys.readouterr().err


def test_the_bundle_itself_is_never_the_output(exported, capsys):
    command = ["calibrate", str(exported.bundle), "--prevalence", "RCT=0.1"]
    with pytest.raises(SystemExit):
        main([*command, "--output", str(exported.bundle)])
    assert "is the input itself" in capsys.readouterr().err
