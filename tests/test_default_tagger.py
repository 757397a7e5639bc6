"""The tagger that ships: there, whole, and right on articles nobody could get wrong."""

from __future__ import annotations

import pytest

from studytag import Predictor, load_manifest
from studytag.labels import STUDY_DESIGNS
from studytag.models import default_bundle

PLAIN = {
    "RCT": {
        "title": "Sealants against caries in schoolchildren: a randomised controlled trial",
        "abstract": "Children were randomly allocated to sealants or no treatment. Caries was "
        "assessed after two years by blinded examiners. 412 children were randomised.",
    },
    "MetaAnalysis": {
        "title": "Statins for secondary prevention: a systematic review and meta-analysis",
        "abstract": "We searched MEDLINE and Embase for trials. Effects were pooled by a "
        "random-effects meta-analysis. Twenty trials were included.",
    },
    "CaseReport": {
        "title": "Giant cell tumour of the hand: a case report",
        "abstract": "A 34-year-old woman presented with a swelling. We describe the case.",
    },
    "Animal": {
        "title": "Hepatic gene expression in obese mice",
        "abstract": "Male C57BL/6 mice were fed a high-fat diet for twelve weeks.",
    },
}


@pytest.fixture(scope="module")
def predictor():
    with Predictor() as loaded:
        yield loaded


@pytest.mark.parametrize("label", PLAIN)
def test_plain_articles_get_their_label(predictor, label):
    (prediction,) = predictor.predict(PLAIN[label])
    assert label in prediction.labels


def test_an_rct_is_a_clinical_trial(predictor):
    (prediction,) = predictor.predict(PLAIN["RCT"])
    assert "ClinicalTrial" in prediction.labels
    assert prediction.probabilities["ClinicalTrial"] >= prediction.probabilities["RCT"]


def test_it_is_whole_small_and_says_what_it_is():
    manifest = load_manifest(default_bundle())  # verifies every file
    assert manifest.labels == STUDY_DESIGNS
    assert set(manifest.variants) == {"int8", "fast"}
    files = [path for path in default_bundle().rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 30e6
    names = {path.relative_to(default_bundle()).as_posix() for path in files}
    assert names == {*manifest.files, "studytag.json", "README.md"}
    card = (default_bundle() / "README.md").read_text(encoding="utf-8")
    assert all(f"| {label} |" in card for label in STUDY_DESIGNS)
