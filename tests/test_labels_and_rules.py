"""Label sets and the rules that make labels. All articles are made up."""

from __future__ import annotations

import numpy as np
import pytest

from studytag.data.labelling import load_rules
from studytag.errors import InputError
from studytag.labels import LabelSet

TEN = (
    *("SystematicReview", "MetaAnalysis", "RCT", "ClinicalTrial", "Cohort"),
    *("CaseControl", "CaseReport", "InVitro", "Animal", "Human"),
)
INDEXED = ["Dental Caries"]  # some heading, so that the article counts as indexed


@pytest.fixture(scope="module")
def strict():
    return load_rules("strict")


@pytest.fixture(scope="module")
def reference():
    return load_rules("reference")


def article(pub_types=("Journal Article",), mesh_terms=INDEXED, title="A title", abstract="Text."):
    return {
        "title": title,
        "abstract": abstract,
        "pub_types": list(pub_types),
        "mesh_terms": list(mesh_terms),
    }


def labels_of(rules, **parts):
    return set(rules.apply(article(**parts))[0])


# --- label sets


def test_encoding_and_decoding():
    labels = LabelSet(["Trial", "Cohort", "Human"])
    encoded = labels.encode([["Human", "Trial"], [], None, ("Cohort", "Cohort")], "labels")
    assert encoded.dtype == np.bool_
    np.testing.assert_array_equal(encoded, [[1, 0, 1], [0, 0, 0], [0, 0, 0], [0, 1, 0]])
    assert [labels.decode(row) for row in encoded] == [["Trial", "Human"], [], [], ["Cohort"]]
    assert labels.encode([], "labels").shape == (0, 3)
    assert (len(labels), list(labels)) == (3, ["Trial", "Cohort", "Human"])


@pytest.mark.parametrize("unknown", ["human", "Animal", "", None, float("nan")])
def test_an_unknown_label_names_row_column_and_label(unknown):
    with pytest.raises(InputError) as caught:
        LabelSet(("Human",)).encode([["Human"], ["Human", unknown]], "known")
    assert f"row 2, column 'known': unknown label {unknown!r}" in str(caught.value)
    assert "the labels are Human" in str(caught.value)


@pytest.mark.parametrize("names", [(), ("",), ("A", "B", "A")])
def test_label_names_are_given_and_distinct(names):
    with pytest.raises(InputError, match="label names"):
        LabelSet(names)


# --- the shipped rule sets


def test_both_rule_sets_have_the_ten_labels_in_order(strict, reference):
    assert strict.labels.names == reference.labels.names == TEN


def test_an_indexed_article_is_known_in_every_label(strict):
    labels, known = strict.apply(article(["Randomized Controlled Trial"], ["Humans"]))
    assert labels == ["RCT", "Human"]
    assert known == list(TEN)


@pytest.mark.parametrize("mesh_terms", [[], None])
def test_without_headings_nothing_is_known_but_what_is_present(strict, mesh_terms):
    row = article(["Journal Article", "Case Reports"]) | {"mesh_terms": mesh_terms}
    assert strict.apply(row) == (["CaseReport"], ["CaseReport"])
    row["abstract"] = "Enamel was etched in vitro."
    assert strict.apply(row) == (["CaseReport", "InVitro"], ["CaseReport", "InVitro"])


def test_without_publication_types_only_what_headings_tell_is_known(strict):
    labels, known = strict.apply(article([], ["Humans", "Retrospective Studies"]))
    assert labels == ["Cohort", "Human"]
    assert known == ["Cohort", "CaseControl", "InVitro", "Animal", "Human"]


def test_reference_takes_every_absence_as_known(reference):
    assert reference.apply(article([], [])) == ([], list(TEN))


@pytest.mark.parametrize(
    ("evidence", "label"),
    [
        ({"pub_types": ["Scoping Review"]}, "SystematicReview"),
        ({"pub_types": ["Network Meta-Analysis"]}, "MetaAnalysis"),
        ({"pub_types": ["Randomized Controlled Trial, Veterinary"]}, "RCT"),
        ({"pub_types": ["Clinical Trial, Phase III"]}, "ClinicalTrial"),
        ({"pub_types": ["Clinical Trial", "Phase III"]}, "ClinicalTrial"),
        ({"pub_types": ["Observational Study"]}, "Cohort"),
        ({"mesh_terms": ["Follow-Up Studies"]}, "Cohort"),
        ({"mesh_terms": ["Case-Control Studies"]}, "CaseControl"),
        ({"pub_types": ["Case Reports"]}, "CaseReport"),
        ({"mesh_terms": ["Cells, Cultured"]}, "InVitro"),
        ({"mesh_terms": ["Mice", "Cells", "Cultured"]}, "InVitro"),
        ({"mesh_terms": ["Cell Culture Techniques", "Three Dimensional"]}, "InVitro"),
        ({"abstract": "Wear was measured In-Vitro."}, "InVitro"),
        ({"title": "An ex vivo study", "abstract": None}, "InVitro"),
        ({"mesh_terms": ["Animals"]}, "Animal"),
        ({"mesh_terms": ["Humans"]}, "Human"),
    ],
)
def test_strict_evidence(strict, evidence, label):
    assert label in labels_of(strict, **evidence)
    assert not labels_of(strict)


@pytest.mark.parametrize(
    "nothing",
    [
        {"pub_types": ["Comparative Study"]},
        {"pub_types": ["Randomized Controlled Trials as Topic"]},
        {"mesh_terms": ["Cells", "Mice", "Cultured"]},
        {"mesh_terms": ["Clinical Trials as Topic", "Animals, Wild"]},
        {"abstract": "Couples had in vitro fertilization, or in vitro fertilisation."},
        {"abstract": "In vitrox and patients are words."},
        {"mesh_terms": ["Fertilization in Vitro"]},
    ],
    ids=str,
)
def test_what_strict_does_not_take_for_evidence(strict, nothing):
    assert not labels_of(strict, **nothing)


def test_reference_keeps_its_known_defects(reference):
    assert labels_of(reference, pub_types=["Comparative Study"]) == {"CaseControl"}
    assert not labels_of(reference, mesh_terms=["Case-Control Studies"])
    assert labels_of(reference, abstract="In vitro fertilization of patients.") == {
        "InVitro",
        "Human",
    }


def test_case_and_white_space_do_not_matter(strict):
    row = article(["JOURNAL ARTICLE", " RANDOMIZED  controlled TRIAL "], ["humans", "ANIMALS"])
    assert strict.apply(row)[0] == ["RCT", "Animal", "Human"]


# --- rule sets of other fields


def rule_file(tmp_path, text):
    path = tmp_path / "rules.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def own_rules(tmp_path):
    """Labels without rules are read from the table."""
    return load_rules(rule_file(tmp_path, "labels:\n  Apoptosis:\n  Growth: {}\n"))


def test_a_rule_set_is_named_after_its_file(own_rules):
    assert own_rules.name == "rules"
    assert own_rules.keep_unlabelled
    assert own_rules.labels.names == ("Apoptosis", "Growth")


@pytest.mark.parametrize(
    ("row", "labels", "known"),
    [
        ({"labels": ["Growth"]}, ["Growth"], ["Apoptosis", "Growth"]),
        ({"labels": []}, [], ["Apoptosis", "Growth"]),
        ({"labels": ["Growth"], "known": ["Growth"]}, ["Growth"], ["Growth"]),
        ({"labels": [], "known": ["Apoptosis"]}, [], ["Apoptosis"]),
        ({"labels": [], "known": []}, [], []),
        # What is present is known, and of a row that nobody labelled nothing is.
        ({"labels": ["Growth"], "known": []}, ["Growth"], ["Growth"]),
        ({"labels": None}, [], []),
        ({"labels": None, "known": ["Growth"]}, [], ["Growth"]),
        ({}, [], []),
    ],
)
def test_labels_from_the_table(own_rules, row, labels, known):
    assert own_rules.apply({"title": "A title"} | row) == (labels, known)


@pytest.mark.parametrize("column", ["labels", "known"])
def test_a_label_of_another_set_in_the_table_is_refused(own_rules, column):
    row = {"title": "A title", "labels": [], column: ["Growth", "growth"]}
    with pytest.raises(InputError, match=f"column '{column}': unknown label 'growth'; .*Apoptosis"):
        own_rules.apply(row)


def test_rules_do_not_look_at_the_table_s_labels_when_they_need_none(strict):
    assert strict.apply(article() | {"labels": ["Apoptosis"], "known": ["Growth"]})[0] == []


def test_rules_and_the_table_can_be_mixed(tmp_path):
    rules = load_rules(rule_file(tmp_path, "labels: {Lungs: {patterns: ['\\blung']}, Read: }"))
    row = {"title": "Lungs", "labels": ["Read"]}
    assert rules.apply(row) == (["Lungs", "Read"], ["Lungs", "Read"])
    assert rules.apply({"title": "Plunge"}) == ([], ["Lungs"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("labels: [", "not valid YAML"),
        ("labels: !!python/object:os.system {}", "not valid YAML"),
        ("", "needs a mapping 'labels'"),
        ("- A", "needs a mapping 'labels'"),
        ("labels: [A, B]", "needs a mapping 'labels'"),
        ("labels: {}", "needs a mapping 'labels'"),
        ("labels: {A: }\nkeep: true", "unknown key 'keep'"),
        ("labels: {A: }\n1: x\nb: y", "unknown key '1'"),
        ("labels: {A: }\nkeep_unlabelled: 'no'", "keep_unlabelled must be true or false"),
        ("labels: {No: }", "label False is not text; put it in quotes"),
        ("labels: {2024: }", "label 2024 is not text; put it in quotes"),
        ("labels: {A: text}", "label 'A': a rule has the keys"),
        ("labels: {A: {mesh: [Humans]}}", "label 'A': a rule has the keys"),
        ("labels: {A: {mesh_terms: Humans}}", "label 'A': mesh_terms must be a list"),
        ("labels: {A: {pub_types: [1]}}", "label 'A': pub_types must be a list"),
        ("labels: {A: {patterns: ['']}}", "label 'A': patterns must be a list"),
        ("labels: {A: {patterns: ['(in']}}", "label 'A': pattern is not valid"),
        ("labels: {A: {absence_needs: [mesh]}}", "label 'A': absence_needs names 'mesh'"),
    ],
)
def test_a_wrong_rule_file_is_refused_in_one_line(tmp_path, text, message):
    path = rule_file(tmp_path, text)
    with pytest.raises(InputError) as caught:
        load_rules(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_rule_file_that_is_not_text_is_refused(tmp_path):
    path = tmp_path / "rules.yaml"
    path.write_bytes(b"\xff\xfelabels")
    with pytest.raises(InputError, match="not valid YAML"):
        load_rules(path)


def test_an_unknown_rule_set_names_the_shipped_ones(tmp_path):
    for name in ("strickt", tmp_path, tmp_path / "none.yaml"):
        with pytest.raises(InputError, match="reference, strict, or a YAML file"):
            load_rules(name)
