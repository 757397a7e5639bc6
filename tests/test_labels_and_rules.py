"""Label sets and the rules that make labels. All articles are made up."""

from __future__ import annotations

import numpy as np
import pytest

from studytag.data.rule_file import load_rules
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
    assert labels == ["RCT", "ClinicalTrial", "Human"]
    assert known == list(TEN)


@pytest.mark.parametrize("mesh_terms", [[], None])
def test_without_headings_nothing_is_known_but_what_is_present(strict, mesh_terms):
    row = article(["Journal Article", "Case Reports"]) | {"mesh_terms": mesh_terms}
    assert strict.apply(row) == (["CaseReport"], ["CaseReport"])
    row = article() | {"mesh_terms": mesh_terms, "abstract": "Enamel was etched in vitro."}
    assert strict.apply(row) == (["InVitro"], ["InVitro"])


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
    assert strict.apply(row)[0] == ["RCT", "ClinicalTrial", "Animal", "Human"]


# --- what strict doubts, and what it implies


def answer(rules, label, **parts):
    """True, False or None: whether an article has the label."""
    year = parts.pop("year", 2022)
    labels, known = rules.apply(article(**parts) | {"year": year})
    return label in labels if label in known else None


def test_strict_has_a_version_and_the_implications_of_the_mesh_tree(strict, reference):
    assert (strict.version, reference.version) == (4, 1)
    assert strict.implications == strict.labels.implications == {"RCT": ("ClinicalTrial",)}
    assert reference.implications == {}


@pytest.mark.parametrize(
    "pub_type",
    [
        "Randomized Controlled Trial",
        "Randomized Controlled Trial, Veterinary",
        "Pragmatic Clinical Trial",
        "Equivalence Trial",
    ],
)
def test_a_randomised_trial_is_a_clinical_trial(strict, pub_type):
    assert labels_of(strict, pub_types=[pub_type]) >= {"RCT", "ClinicalTrial"}
    unindexed = article([pub_type], [])
    assert strict.apply(unindexed)[1][:2] == ["RCT", "ClinicalTrial"]


def test_a_clinical_trial_need_not_be_randomised(strict):
    assert labels_of(strict, pub_types=["Clinical Trial, Phase I"]) == {"ClinicalTrial"}
    assert answer(strict, "RCT", pub_types=["Clinical Trial, Phase I"]) is False


def test_what_may_be_a_randomised_trial_may_be_a_clinical_trial(strict):
    parts = {"title": "Varnish for molars: a randomised controlled trial"}
    assert answer(strict, "RCT", **parts) is None
    assert answer(strict, "ClinicalTrial", **parts) is None


@pytest.mark.parametrize(
    ("label", "parts"),
    [
        (
            "SystematicReview",
            {"title": "Varnish: a systematic review", "pub_types": ["Review"], "year": 2016},
        ),
        (
            "SystematicReview",
            {"title": "Varnish: a systematic literature review", "year": None},
        ),
        ("SystematicReview", {"pub_types": ["Meta-Analysis"], "year": 2010}),
        (
            "SystematicReview",
            {"pub_types": ["Review"], "abstract": "We searched MEDLINE and Scopus.", "year": 2020},
        ),
        ("MetaAnalysis", {"title": "Varnish: systematic review and meta-analysis"}),
        ("MetaAnalysis", {"abstract": "A random-effects meta-analysis was performed."}),
        ("RCT", {"abstract": "Sixty patients were randomly assigned to varnish or gel."}),
        ("RCT", {"mesh_terms": ["Double-Blind Method"]}),
        (
            "RCT",
            {
                "pub_types": ["Randomized Controlled Trial"],
                "title": "Varnish for molars: study protocol for a randomised trial",
            },
        ),
        ("ClinicalTrial", {"pub_types": ["Clinical Study"]}),
        ("ClinicalTrial", {"title": "An open-label phase II trial of a gel"}),
        ("Cohort", {"abstract": "We retrospectively reviewed the charts of 40 children."}),
        ("Cohort", {"title": "Caries over ten years: a birth cohort"}),
        ("CaseControl", {"abstract": "In this case-control study, 40 cases were seen."}),
        ("CaseReport", {"title": "A rare case of ameloblastoma"}),
        ("InVitro", {"abstract": "HeLa cells were treated with the extract."}),
        ("InVitro", {"abstract": "The gene was silenced in two cell lines."}),
        (
            "InVitro",
            {"title": "Resins: a review", "abstract": "In vitro studies of resins are discussed."},
        ),
        ("InVitro", {"pub_types": ["Review"], "title": "In vitro and in vivo wear"}),
        ("Animal", {"title": "Wear of molars in mice"}),
        ("Human", {"mesh_terms": ["Aged"]}),
    ],
    ids=str,
)
def test_contradictions_make_unknown(strict, label, parts):
    assert answer(strict, label, **parts) is None


@pytest.mark.parametrize(
    ("label", "parts"),
    [
        # After the type was introduced everywhere, its absence means something.
        ("SystematicReview", {"title": "Protocol of a systematic review", "year": 2024}),
        ("SystematicReview", {"pub_types": ["Meta-Analysis"], "year": 2024}),
        ("RCT", {"title": "Randomised controlled trials of varnish: a systematic review"}),
        (
            "RCT",
            {
                "pub_types": ["Clinical Trial Protocol"],
                "title": "Varnish for molars: protocol of a randomised trial",
                "abstract": "Sixty people will be randomised; no one was randomly assigned before.",
            },
        ),
        ("MetaAnalysis", {"abstract": "A meta-analysis is needed."}),
        ("ClinicalTrial", {"title": "Trials of varnish"}),
        ("Cohort", {"abstract": "Prospects for follow-up."}),
        ("CaseReport", {"title": "Use cases of resins"}),
        ("InVitro", {"abstract": "Patients were treated with resin."}),
        ("Human", {"abstract": "A resin for patients was made."}),
    ],
    ids=str,
)
def test_what_strict_does_not_doubt(strict, label, parts):
    assert answer(strict, label, **parts) is False


WORDLESS = "It is sweet and grows on dry soil near the sea. " * 8


@pytest.mark.parametrize(
    ("label", "parts"),
    [
        # Headings for what a review is about, and for cultured cells as a treatment.
        ("InVitro", {"pub_types": ["Review"], "mesh_terms": ["Cells, Cultured"]}),
        ("InVitro", {"mesh_terms": ["Cells, Cultured", "Treatment Outcome"]}),
        ("Cohort", {"pub_types": ["Review"], "mesh_terms": ["Retrospective Studies"]}),
        ("Cohort", {"pub_types": ["Case Reports"], "mesh_terms": ["Follow-Up Studies"]}),
        ("Cohort", {"mesh_terms": ["Cohort Studies", "Mice"]}),
        ("CaseReport", {"pub_types": ["Case Reports", "Clinical Trial"]}),
        ("CaseReport", {"pub_types": ["Case Reports"], "title": "Caries: analysis of 110 cases"}),
        # A split into training and test sets is no allocation to a treatment.
        (
            "RCT",
            {
                "pub_types": ["Randomized Controlled Trial"],
                "abstract": "Patients were randomly divided into a training and a validation set.",
            },
        ),
        (
            "ClinicalTrial",
            {
                "pub_types": ["Randomized Controlled Trial"],
                "mesh_terms": ["Retrospective Studies"],
            },
        ),
        ("Human", {"mesh_terms": ["Humans"], "abstract": WORDLESS}),
        ("Animal", {"mesh_terms": ["Animals", "Humans"], "abstract": WORDLESS}),
    ],
    ids=str,
)
def test_types_and_headings_that_the_article_contradicts(strict, label, parts):
    assert answer(strict, label, **parts) is None


@pytest.mark.parametrize(
    ("label", "parts"),
    [
        ("InVitro", {"mesh_terms": ["Cells, Cultured"], "title": "A study of patients"}),
        ("RCT", {"pub_types": ["Randomized Controlled Trial"], "title": "Zinc"}),
        ("Human", {"mesh_terms": ["Humans"], "title": "Zinc"}),  # too little text to doubt it
        ("Human", {"mesh_terms": ["Humans"], "abstract": WORDLESS + "For patients."}),
        ("Animal", {"mesh_terms": ["Animals"], "abstract": WORDLESS}),
    ],
    ids=str,
)
def test_types_and_headings_stand_where_nothing_contradicts_them(strict, label, parts):
    assert answer(strict, label, **parts) is True


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
    assert own_rules.version == 1


def test_a_rule_set_has_the_name_and_version_that_its_file_gives(tmp_path):
    text = "name: mine\nversion: 3\nkeep_unlabelled: false\nlabels: {A: }"
    rules = load_rules(rule_file(tmp_path, text))
    assert (rules.name, rules.version, rules.keep_unlabelled) == ("mine", 3, False)


def test_absence_takes_the_columns_that_the_rule_needs(tmp_path):
    text = "labels: {A: {patterns: [lung], absence_needs: [mesh_terms, pub_types]}}"
    rules = load_rules(rule_file(tmp_path, text))
    row = {"title": "Heart", "mesh_terms": ["Heart"], "pub_types": ["Review"]}
    assert rules.apply(row) == ([], ["A"])
    for column in ("mesh_terms", "pub_types"):
        assert rules.apply(row | {column: []}) == ([], [])


def test_each_pattern_suffices_and_each_heading_also_where_it_was_split(tmp_path):
    rule = "{patterns: [lung, '\\bheart'], mesh_terms: ['Anemia, Hemolytic, Autoimmune']}"
    rules = load_rules(rule_file(tmp_path, f"labels: {{A: {rule}}}"))
    for title, terms, labels in (
        ("Of lungs", [], ["A"]),
        ("Of hearts", [], ["A"]),
        ("Of anemia", ["Rats", "Anemia", "Hemolytic", "Autoimmune", "Mice"], ["A"]),
        ("Of anemia", ["Anemia", "Autoimmune", "Hemolytic"], []),
        ("Of both", ["Anemia", "Hemolytic"], []),
    ):
        assert rules.apply({"title": title, "mesh_terms": terms})[0] == labels


@pytest.mark.parametrize(
    ("row", "labels", "known"),
    [
        ({"labels": ["Growth"]}, ["Growth"], ["Apoptosis", "Growth"]),
        ({"labels": []}, [], ["Apoptosis", "Growth"]),
        ({"labels": ["Growth"], "known": ["Growth"]}, ["Growth"], ["Growth"]),
        ({"labels": [], "known": ["Apoptosis"]}, [], ["Apoptosis"]),
        ({"labels": [], "known": []}, [], []),
        # Of a row that nobody labelled nothing is known.
        ({"labels": None}, [], []),
        ({"labels": None, "known": ["Growth"]}, [], ["Growth"]),
        ({}, [], []),
    ],
)
def test_labels_from_the_table(own_rules, row, labels, known):
    assert own_rules.apply({"title": "A title"} | row) == (labels, known)


def test_a_label_that_is_present_and_not_known_is_refused(own_rules):
    with pytest.raises(InputError, match="label 'Growth' is in 'labels', but not in 'known'; add"):
        own_rules.apply({"title": "A title", "labels": ["Growth"], "known": ["Apoptosis"]})


@pytest.mark.parametrize("column", ["labels", "known"])
def test_a_label_of_another_set_in_the_table_is_refused(own_rules, column):
    row = {"title": "A title", "labels": [], column: ["Growth", "growth"]}
    with pytest.raises(
        InputError, match=f"column '{column}': unknown label 'growth'; .*Apoptosis, G"
    ):
        own_rules.apply(row)


def test_rules_do_not_look_at_the_table_s_labels_when_they_need_none(strict):
    assert strict.apply(article() | {"labels": ["Apoptosis"], "known": ["Growth"]})[0] == []


def test_rules_and_the_table_can_be_mixed(tmp_path):
    rules = load_rules(rule_file(tmp_path, "labels: {Lungs: {patterns: ['\\blung']}, Read: }"))
    row = {"title": "Lungs", "labels": ["Read"]}
    assert rules.apply(row) == (["Lungs", "Read"], ["Lungs", "Read"])
    assert rules.apply({"title": "Plunge"}) == ([], ["Lungs"])


def test_a_reference_back_is_to_a_group_of_its_own_pattern(tmp_path):
    rules = load_rules(rule_file(tmp_path, r"labels: {A: {patterns: ['(ab)c', '(f|b) \1']}}"))
    assert rules.apply({"title": "A b b"})[0] == ["A"]
    assert rules.apply({"title": "A f b"})[0] == []


def test_a_pattern_can_be_broken_over_lines(tmp_path):
    text = "labels:\n  Fire:\n    patterns:\n      - |-\n        \\b(?:fire|\n        smoke)\\b\n"
    rules = load_rules(rule_file(tmp_path, text))
    assert rules.apply({"title": "No smoke"})[0] == ["Fire"]
    assert rules.apply({"title": "Smoked fires"})[0] == []


CHAIN = """
labels:
  Guild: {patterns: ['\\bguild'], implies: [Society]}
  Society: {patterns: ['\\bsociety'], implies: [Group], doubted_by: {absence: [{patterns: [club]}]}}
  Group: {patterns: ['\\bgroup']}
"""


@pytest.mark.parametrize(
    ("title", "labels", "known"),
    [
        ("A guild", ["Guild", "Society", "Group"], ["Guild", "Society", "Group"]),
        ("A society", ["Society", "Group"], ["Guild", "Society", "Group"]),
        ("A club", [], ["Guild"]),  # perhaps a society, so perhaps a group
        ("A club is a group", ["Group"], ["Guild", "Group"]),
        ("A person", [], ["Guild", "Society", "Group"]),
    ],
)
def test_implications_reach_through_other_labels(tmp_path, title, labels, known):
    rules = load_rules(rule_file(tmp_path, CHAIN))
    assert rules.implications == {"Guild": ("Society",), "Society": ("Group",)}
    assert rules.apply({"title": title}) == (labels, known)


@pytest.mark.parametrize(
    ("row", "labels", "known"),
    [
        ({"labels": ["A"], "known": ["A"]}, ["A", "B"], ["A", "B"]),
        ({"labels": ["A", "B"], "known": ["A"]}, ["A", "B"], ["A", "B"]),
        # That B is absent was stated by whoever labelled the table, so A is absent too.
        ({"labels": [], "known": ["B"]}, [], ["A", "B"]),
        ({"labels": [], "known": ["A"]}, [], ["A"]),
        ({"labels": ["B"], "known": ["B"]}, ["B"], ["B"]),
    ],
)
def test_implications_between_labels_of_the_table(tmp_path, row, labels, known):
    rules = load_rules(rule_file(tmp_path, "labels: {A: {implies: [B]}, B: }"))
    assert rules.apply({"title": "A title"} | row) == (labels, known)


@pytest.mark.parametrize(
    ("doubt", "row", "known"),
    [
        ("presence: [{pub_types: [News]}]", {"pub_types": ["News", "Fire"]}, False),
        ("presence: [{pub_types: [News]}]", {"pub_types": ["Fire"]}, True),
        ("pattern: [{pub_types: [News]}]", {"pub_types": ["News", "Fire"]}, True),
        ("pattern: [{pub_types: [News]}]", {"pub_types": ["News"], "title": "Fire!"}, False),
        ("presence: [{pub_types: [News]}]", {"pub_types": ["News"], "title": "Fire!"}, False),
        # Every key of a circumstance must hold, and one circumstance suffices.
        ("absence: [{pub_types: [News], patterns: [smoke]}]", {"pub_types": ["News"]}, True),
        (
            "absence: [{pub_types: [News], patterns: [smoke]}]",
            {"pub_types": ["news"], "title": "SMOKE"},
            False,
        ),
        ("absence: [{until: 1990}, {patterns: [smoke]}]", {"title": "Smoke", "year": 2000}, False),
        ("absence: [{until: 1990}]", {"year": 1990}, False),
        ("absence: [{until: 1990}]", {"year": 1991}, True),
        ("absence: [{until: 1990}]", {"year": None}, False),
        ("absence: [{title_patterns: [smoke]}]", {"abstract": "Smoke."}, True),
        ("absence: [{mesh_terms: [Smoke]}]", {"mesh_terms": ["Smoke"]}, False),
    ],
)
def test_doubts(tmp_path, doubt, row, known):
    text = f"labels: {{Fire: {{pub_types: [Fire], patterns: [fire], doubted_by: {{{doubt}}}}}}}"
    rules = load_rules(rule_file(tmp_path, text))
    assert rules.apply({"title": "A title"} | row)[1] == ["Fire"] * known


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("labels: [", "cannot be read as YAML"),
        ("labels: !!python/object:os.system {}", "cannot be read as YAML"),
        ("", "expected a YAML mapping"),
        ("- A", "expected a YAML mapping"),
        ("name: mine", "needs a mapping 'labels'"),
        ("labels: [A, B]", "needs a mapping 'labels'"),
        ("labels: {}", "needs a mapping 'labels'"),
        ("labels: {A: }\nkeep: true", "unknown key 'keep'"),
        ("labels: {A: }\n1: x\nb: y", "unknown key '1'"),
        ("labels: {A: }\nkeep_unlabelled: 'no'", "keep_unlabelled must be true or false"),
        ("labels: {A: }\nversion: '2'", "version must be a whole number from 1 on, not '2'"),
        ("labels: {A: }\nversion: 0", "version must be a whole number from 1 on, not 0"),
        ("labels: {No: }", "label False is not text; put it in quotes"),
        ("labels: {2024: }", "label 2024 is not text; put it in quotes"),
        ("labels: {'A  B ': }", "label 'A  B ': tables are read without such spaces; write 'A B'"),
        ("labels: {A: text}", "label 'A': a rule has the keys"),
        ("labels: {A: {mesh: [Humans]}}", "label 'A': a rule has the keys"),
        ("labels: {A: {mesh_terms: Humans}}", "label 'A': mesh_terms must be a list"),
        ("labels: {A: {pub_types: [1]}}", "label 'A': pub_types must be a list"),
        ("labels: {A: {patterns: ['']}}", "label 'A': patterns must be a list"),
        ("labels: {A: {patterns: ['(in']}}", "label 'A': pattern is not valid"),
        ("labels: {A: {title_patterns: ['a)']}}", "label 'A': pattern is not valid"),
        ("labels: {A: {absence_needs: [mesh]}}", "label 'A': absence_needs names 'mesh'"),
        ("labels: {A: {implies: B}}", "label 'A': implies must be a list"),
        ("labels: {A: {implies: [B]}}", "label 'A': implies 'B', which is none of the labels A"),
        ("labels: {A: {implies: [B]}, B: {implies: [A]}}", "label 'A' implies itself"),
        ("labels: {A: {doubted_by: {absence: []}}}", "doubted_by needs evidence"),
        ("labels: {A: {absence_needs: [mesh_terms]}}", "label 'A': absence_needs needs evidence"),
        ("labels: {A: {patterns: [a]}, B: , A: {patterns: [b]}}", "has 'A' twice in one mapping"),
        ("labels: {A: {patterns: [a], patterns: [b]}}", "has 'patterns' twice in one mapping"),
        (
            "labels: {A: {patterns: [a], doubted_by: {absence: [{until: 1, until: 2}]}}}",
            "has 'until' twice in one mapping",
        ),
        (
            "labels: {A: {patterns: [a], doubted_by: [b]}}",
            "label 'A': doubted_by has the keys ['absence', 'pattern', 'presence']",
        ),
        (
            "labels: {A: {patterns: [a], doubted_by: {absent: []}}}",
            "label 'A': doubted_by has the keys ['absence', 'pattern', 'presence']",
        ),
        (
            "labels: {A: {patterns: [a], doubted_by: {absence: {patterns: [b]}}}}",
            "label 'A': doubted_by absence must be a list of circumstances",
        ),
        (
            "labels: {A: {patterns: [a], doubted_by: {absence: [{pattern: [b]}]}}}",
            "label 'A': doubted_by absence: a circumstance has the keys",
        ),
        *(
            (
                f"labels: {{A: {{patterns: [a], doubted_by: {{absence: [{odd}]}}}}}}",
                "label 'A': doubted_by absence: a circumstance has the keys",
            )
            for odd in ("x", "7", "{}", "[until]")
        ),
        (
            "labels: {A: {patterns: [a], doubted_by: {absence: [{patterns: b}]}}}",
            "label 'A': doubted_by absence: patterns must be a list of texts",
        ),
        (
            "labels: {A: {implies: [C]}, B: }",
            "label 'A': implies 'C', which is none of the labels A, B",
        ),
        (
            "labels: {A: {patterns: [a], doubted_by: {absence: [{until: soon}]}}}",
            "label 'A': doubted_by absence: until must be a year, not 'soon'",
        ),
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
    with pytest.raises(InputError, match="cannot be read as YAML"):
        load_rules(path)


def test_an_unknown_rule_set_names_the_shipped_ones(tmp_path):
    for name in ("strickt", tmp_path, tmp_path / "none.yaml"):
        with pytest.raises(InputError, match="reference, strict, or a YAML file"):
            load_rules(name)
