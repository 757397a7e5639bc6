"""Thresholds against brute force: every objective is checked over all possible decisions."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studytag.errors import MissingDependencyError
from studytag.evaluation.bootstrap import f1_intervals, resampled_f1
from studytag.evaluation.calibration import calibrate
from studytag.evaluation.metrics import (
    calibration_bins,
    expected_calibration_error,
    fully_assessed,
    score,
)
from studytag.evaluation.scores import MacroScores
from studytag.evaluation.thresholds import cross_fitted_thresholds, tune_thresholds
from studytag.labels import LabelSet

ABC = LabelSet(("a", "b", "c"))


def problem(seed, n=12, labels=3, ties=False):
    """Truth, known mask and float32 probabilities (with ties and exact 0s and 1s if asked)."""
    rng = np.random.default_rng(seed)
    truth = rng.random((n, labels)) < 0.4
    known = rng.random((n, labels)) < 0.85
    probabilities = np.clip(truth * 0.3 + rng.random((n, labels)) * 0.7, 0, 1)
    if ties:
        probabilities = np.round(probabilities * 4) / 4
    return truth, known, probabilities.astype(np.float32)


def counts(truth, known, probabilities, threshold):
    yes = (probabilities >= threshold) & known
    return (yes & truth).sum(), yes.sum(), (truth & known).sum()


def all_cuts(probabilities):
    """One threshold up to 1 for every decision that can be made: down to each value, and none."""
    none = [1.0] if probabilities.max() < 1 else []
    return [*none, *np.unique(probabilities)]


def f1(true, predicted, positives):
    return 2 * true / max(predicted + positives, 1)


def micro_f1(truth, known, probabilities, thresholds):
    return f1(*(counts(truth, known, probabilities, np.asarray(thresholds))))


def f1_where_rarer(true, predicted, positives):
    """The mean of the F1 here and of that where false positives are three times as many."""
    false = predicted - true
    return np.mean([f1(true, true + r * false, positives) for r in (1, 3)])


@settings(max_examples=100)
@given(st.integers(0, 10_000), st.booleans())
def test_operating_points_match_brute_force(seed, ties):
    truth, known, p = problem(seed, n=25, labels=1, ties=ties)
    points = tune_thresholds(truth, known, p, min_positives=0, resamples=0)
    trials = {cut: counts(truth, known, p, cut) for cut in all_cuts(p)}
    reached = {name: counts(truth, known, p, value[0]) for name, value in points.items()}
    positives = reached["fixed"][2]

    assert f1(*reached["label_f1"]) == pytest.approx(max(f1(*c) for c in trials.values()))
    best = max(f1_where_rarer(*c) for c in trials.values())
    assert f1_where_rarer(*reached["f1"]) == pytest.approx(best)
    negatives = max((known & ~truth).sum(), 1)
    youden = [c[0] / max(positives, 1) - (c[1] - c[0]) / negatives for c in trials.values()]
    got = reached["balanced"]
    assert got[0] / max(positives, 1) - (got[1] - got[0]) / negatives == pytest.approx(max(youden))
    enough = [c[1] for c in trials.values() if c[0] >= 0.98 * positives]
    assert reached["sensitive"][0] >= 0.98 * positives
    assert reached["sensitive"][1] == min(enough, default=0)
    exact = [c[0] for c in trials.values() if c[1] and c[0] >= 0.95 * c[1]]
    if exact:
        assert reached["precise"][0] == max(exact)
        assert reached["precise"][0] >= 0.95 * reached["precise"][1]
    else:
        assert points["precise"] == points["label_f1"]


def tuned(truth, probabilities, point, min_positives=1):
    """One label's threshold, tuned on rows that are all known, without resamples."""
    column = np.array(truth, bool)[:, None]
    values = np.array(probabilities, np.float32)[:, None]
    return tune_thresholds(column, column | True, values, min_positives, resamples=0)[point][0]


def test_a_promise_that_is_just_kept_is_kept():
    # 49 of 50 positives are recall 0.98; the last of them lies below a negative.
    probabilities = np.linspace(0.99, 0.01, 52)
    assert probabilities[48] > tuned([*[True] * 49, False, True, False], probabilities, "sensitive")
    assert probabilities[49] < tuned([*[True] * 49, False, True, False], probabilities, "sensitive")
    # 19 of 20 are precision 0.95.
    truth = [*[True] * 10, False, *[True] * 9, *[False] * 32]
    assert probabilities[20] < tuned(truth, probabilities, "precise") < probabilities[19]


def test_one_positive_or_one_negative_counts_as_one():
    assert 0.1 < tuned([False, True, False], [0.9, 0.5, 0.1], "balanced") < 0.5
    assert 0.9 < tuned([False, True, True], [0.9, 0.5, 0.4], "balanced") < 1


def test_what_is_certain_cannot_be_left_out():
    assert tuned([False, True], [1.0, 0.5], "balanced") == 0.25


def test_as_many_positives_as_are_asked_for_suffice():
    truth, probabilities = [True] * 10 + [False] * 10, np.linspace(0.9, 0.1, 20)
    assert tuned(truth, probabilities, "f1", min_positives=10) != 0.5
    assert tuned(truth, probabilities, "f1", min_positives=11) == 0.5


def test_shapes_that_differ_are_told():
    truth = np.ones((2, 1), bool)
    with pytest.raises(ValueError, match=r"^shapes differ: \(2, 1\), \(2, 1\), \(3, 1\)$"):
        tune_thresholds(truth, truth, np.ones((3, 1)))


def test_cross_fitted_thresholds_are_those_of_all_other_articles():
    truth, known, probabilities = problem(3, n=200)
    fold = np.arange(200) % 4 - 1  # every fourth article serves all folds
    found = cross_fitted_thresholds(truth, known, probabilities, fold, ["f1", "precise"])
    assert found.keys() == {"f1", "precise"}
    for number in range(3):
        rows = fold != number
        alone = tune_thresholds(truth[rows], known[rows], probabilities[rows])
        for point, thresholds in found.items():
            assert thresholds.shape == (3, 3)
            assert thresholds[number].tolist() == alone[point]


def test_thresholds_survive_rounding_to_float32():
    truth, known, p = problem(3, n=200)
    tuned = np.asarray(tune_thresholds(truth, known, p)["f1"])
    assert ((p >= tuned) == (p >= tuned.astype(np.float32).astype(np.float64))).all()


def test_bagged_thresholds_generalise_better_than_the_exact_maximum():
    gains = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        truth = rng.random((4200, 4)) < [0.5, 0.2, 0.1, 0.05]
        logits = rng.normal(4 * truth - 3, 1.5)  # as a trained classifier's: two bells
        p = 1 / (1 + np.exp(-logits))
        known = np.ones_like(truth)
        exact, bagged = (
            tune_thresholds(truth[:200], known[:200], p[:200], resamples=n)["label_f1"]
            for n in (0, 50)
        )
        unseen = truth[200:], known[200:], p[200:]
        gains.append(micro_f1(*unseen, bagged) - micro_f1(*unseen, exact))
    assert np.mean(gains) > 0.002


def test_default_thresholds_hold_where_positives_are_rarer():
    rng = np.random.default_rng(0)
    truth = rng.random((20_000, 1)) < 0.2
    p = 1 / (1 + np.exp(-rng.normal(3 * truth - 2, 1)))
    rare = ~truth[:, 0] | (rng.random(len(truth)) < 1 / 3)
    known = np.ones_like(truth)
    tuned = tune_thresholds(truth[:4000], known[:4000], p[:4000])
    here = [micro_f1(truth, known, p, tuned[name]) for name in ("f1", "label_f1")]
    cells = truth[rare], known[rare], p[rare]
    there = [micro_f1(*cells, tuned[name]) for name in ("f1", "label_f1")]
    assert there[0] - there[1] > 0.01
    assert there[0] - there[1] > here[1] - here[0] > 0


def test_bagging_is_the_same_every_time_and_spares_the_other_points():
    truth, known, p = problem(2, n=300)
    once, again, exact = (tune_thresholds(truth, known, p, resamples=n) for n in (20, 20, 0))
    assert once == again
    assert {n for n in once if once[n] != exact[n]} == {"f1", "label_f1", "sensitive"}


def test_labels_with_few_positives_keep_the_fallback():
    truth, known, p = problem(1, n=300)
    truth[:, 1] = False
    truth[:9, 1] = True
    known[:, 1] = True
    points = tune_thresholds(truth, known, p)
    assert all(values[1] == 0.5 for values in points.values())
    assert points["label_f1"][0] != 0.5


def test_unknown_cells_do_not_matter():
    truth, known, p = problem(5, n=300)
    scrambled = np.where(known, p, 0.99).astype(np.float32)
    assert tune_thresholds(truth, known, p) == tune_thresholds(truth | ~known, known, scrambled)


def test_a_label_without_known_rows_keeps_the_fallback():
    truth, known, p = problem(5, n=50)
    known[:, 2] = False
    assert all(v[2] == 0.5 for v in tune_thresholds(truth, known, p, min_positives=0).values())


@pytest.mark.parametrize("bad", [np.nan, -0.1, 1.1])
def test_probabilities_outside_0_1_are_refused(bad):
    truth, known, p = problem(0)
    p[0, 0] = bad
    with pytest.raises(ValueError, match="between 0 and 1"):
        tune_thresholds(truth, known, p)


def test_scores_equal_scikit_learn_where_all_is_known():
    from sklearn.metrics import average_precision_score, precision_recall_fscore_support

    truth, known, p = problem(7, n=400, labels=4)
    known[:] = True
    labels = LabelSet(("a", "b", "c", "d"))
    ours = score(labels, truth, known, p, [0.4, 0.5, 0.6, 0.7])
    yes = p >= np.array([0.4, 0.5, 0.6, 0.7])
    for average in ("micro", "macro"):
        expected = precision_recall_fscore_support(truth, yes, average=average)[:3]
        scores = getattr(ours, average)
        assert (scores.precision, scores.recall, scores.f1) == pytest.approx(expected)
    expected = average_precision_score(truth, p, average="macro")
    assert ours.macro.average_precision == pytest.approx(expected)


def test_scores_with_a_mask_equal_scores_without_the_unknown_cells():
    truth, known, p = problem(8, n=200, labels=1)
    label = LabelSet(("a",))
    keep = known[:, 0]
    masked = score(label, truth, known, p, [0.5])
    assert masked == score(label, truth[keep], known[keep], p[keep], [0.5])
    assert masked.labels["a"].known == keep.sum()


def test_scores_by_hand():
    ab = LabelSet(("a", "b"))
    truth = np.array([[True, True], [False, False], [False, False]])
    probabilities = np.array([[0.9, 0.2], [0.2, 0.1], [0.1, 0.8]], np.float32)
    known = np.array([[True, True], [True, True], [True, False]])
    own = np.array([[0.5, 0.4], [0.5, 0.3], [0.2, 0.2]])  # each article's own
    found = score(ab, truth, known, probabilities, own)
    a, b = found.labels["a"], found.labels["b"]
    assert (a.precision, a.recall, a.f1, a.support, a.known) == (1, 1, 1, 1, 3)
    assert (b.precision, b.recall, b.f1, b.support, b.known) == (0, 0, 0, 1, 2)
    assert (a.average_precision, b.average_precision) == (1, 1)
    assert (a.threshold, b.threshold) == pytest.approx((0.4, 0.3))
    # One article a bin: 0.9 for 1, 0.2 for 0, 0.1 for 0; and 0.2 for 1, 0.1 for 0.
    assert a.calibration_error == pytest.approx((0.1 + 0.2 + 0.1) / 3)
    assert b.calibration_error == pytest.approx((0.8 + 0.1) / 2)
    assert (found.micro.precision, found.micro.recall) == (1, 0.5)
    assert (found.macro.recall, found.macro.average_precision) == (0.5, 1)
    assert found.macro.calibration_error == pytest.approx((0.4 / 3 + 0.9 / 2) / 2)

    without_b = score(ab, truth & [True, False], known, probabilities, own)
    assert without_b.labels["b"].calibration_error is not None
    assert without_b.macro.calibration_error == pytest.approx(0.4 / 3)


def test_without_a_positive_there_is_nothing_to_average():
    nothing = np.zeros((3, 3), bool)
    found = score(ABC, nothing, nothing, np.full((3, 3), 0.5), [0.6] * 3)
    assert found.macro == MacroScores(0, 0, 0, None, None)


def test_bins_are_of_equal_width_and_the_last_holds_certainty():
    truth = np.array([True, False, True])
    counts = calibration_bins(truth, np.array([0.1, 0.3, 1.0]), 4)
    assert counts.dtype == np.float64
    assert counts.tolist() == [[1, 1, 0, 1], [0.1, 0.3, 0, 1], [1, 0, 0, 1]]
    assert calibration_bins(truth[:1], np.array([0.1]), 4).shape == (3, 4)
    assert expected_calibration_error(truth, np.array([0.1, 0.3, 1.0]), 1) == pytest.approx(0.2)


def test_the_ranking_needs_scikit_learn_and_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'studytag\[evaluate\]'"):
        score(ABC, *problem(0), [0.5] * 3)


def test_a_label_without_support_is_left_out_of_the_macro_average():
    truth, known, p = problem(9, n=100, labels=2)
    truth[:, 1] = False
    scores = score(LabelSet(("a", "b")), truth, known, p, [0.5, 0.5])
    assert scores.macro.f1 == scores.labels["a"].f1
    assert scores.labels["b"].average_precision is None


def test_bootstrap_interval_holds_the_score_and_narrows_with_more_articles():
    widths = []
    for n in (200, 3200):
        truth, known, p = problem(11, n=n)
        draws = resampled_f1(ABC, truth, known, p, [0.5] * 3, resamples=300)
        intervals = f1_intervals(ABC, draws)
        scores = score(ABC, truth, known, p, [0.5] * 3)
        for average in ("micro", "macro"):
            assert (
                getattr(intervals, average)[0]
                < getattr(scores, average).f1
                < getattr(intervals, average)[1]
            )
        widths.append(intervals.micro[1] - intervals.micro[0])
    assert widths[1] < widths[0] / 2.5


def test_resampled_groups_stay_together():
    truth, known, p = problem(12, n=400)
    alone = resampled_f1(ABC, truth, known, p, [0.5] * 3, resamples=300)
    singles = resampled_f1(ABC, truth, known, p, [0.5] * 3, resamples=300, groups=np.arange(400))
    np.testing.assert_array_equal(alone.labels, singles.labels)
    # Copies of an article teach nothing new: four in a group are as good as one.
    copied = [np.repeat(each, 4, axis=0) for each in (truth, known, p)]
    copies = resampled_f1(
        ABC,
        *copied,
        [0.5] * 3,
        resamples=300,
        groups=np.repeat(np.arange(400), 4),
    )
    np.testing.assert_allclose(alone.micro, copies.micro)
    assert (
        resampled_f1(ABC, *copied, [0.5] * 3, resamples=300).micro.std() < 0.7 * copies.micro.std()
    )


def test_calibration_finds_the_line_that_made_the_outcomes():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (20_000, 4))
    real = 1 / (1 + np.exp(-(0.5 * logits + 1)))
    truth = rng.random(logits.shape) < real
    known = rng.random(logits.shape) < 0.9
    truth[:, 1] = rng.random(len(truth)) < real[::-1, 1]  # has nothing to do with its logits
    truth[:, 2] = ~truth[:, 2]  # an upside-down ranking stays as it is
    truth[9:, 3] = False  # too few positives
    found = calibrate(truth, known, logits)
    assert found.slope[0] == pytest.approx(0.5, abs=0.03)
    assert found.offset[0] == pytest.approx(1, abs=0.05)
    assert (found.slope[2:], found.offset[2:]) == (pytest.approx(1), pytest.approx(0))

    def error(shown):
        mask = known[:, 0]
        return expected_calibration_error(truth[mask, 0], 1 / (1 + np.exp(-shown[mask, 0])))

    assert error(found(logits)) < 0.015 < 0.1 < error(logits)


def test_separable_labels_keep_a_finite_line():
    logits = np.linspace(-5, 5, 40)[:, None]
    found = calibrate(logits > 0, np.ones((40, 1), bool), logits)
    assert 0 < found.slope[0] < 10


def test_calibration_error_by_hand():
    truth = np.array([True, False, True, True])
    probabilities = np.array([0.01, 0.02, 0.98, 1.0])
    # The lowest bin: 0.015 stated, one half observed. The highest: 0.99 stated, all observed.
    assert expected_calibration_error(truth, probabilities) == pytest.approx(
        0.5 * 0.485 + 0.5 * 0.01
    )
    assert expected_calibration_error(truth[:0], probabilities[:0]) is None


def calibrate_all(truth, logits):
    return calibrate(truth, np.ones_like(truth), logits)(logits)


def test_what_is_known_only_because_it_is_present_says_nothing_about_calibration():
    """Half of the articles are unindexed: of them positives are known, and negatives never."""
    rng = np.random.default_rng(0)
    logits = rng.normal(-1, 2, (20_000, 3))
    truth = rng.random(logits.shape) < 1 / (1 + np.exp(-logits))
    truth[truth.all(axis=1)] = False  # who has every label might have been indexed
    indexed = np.arange(len(truth)) % 2 == 0
    known = truth | indexed[:, None]
    assert (fully_assessed(truth, known) == indexed[:, None]).all()
    found = calibrate(truth, known, logits)
    assert found(logits[indexed]) == pytest.approx(calibrate_all(truth[indexed], logits[indexed]))
    p = 1 / (1 + np.exp(-logits))
    scores = score(ABC, truth, known, p, [0.5] * 3)
    alone = score(ABC, truth[indexed], known[indexed], p[indexed], [0.5] * 3)
    assert scores.macro.calibration_error == alone.macro.calibration_error < 0.05
    assert expected_calibration_error(truth[known[:, 0], 0], p[known[:, 0], 0]) > 0.06
    assert scores.labels["a"].known == known[:, 0].sum()


def test_an_article_of_which_all_labels_are_known_counts_whatever_they_are():
    truth = np.array([[True], [False], [True]])
    assert (fully_assessed(truth, truth | True) == 1).all()
    truth = np.array([[True, True], [True, False], [True, False]])
    known = np.array([[True, True], [True, False], [True, True]])
    assert fully_assessed(truth, known).any(axis=1).tolist() == [True, False, True]


def test_the_sensitive_threshold_keeps_its_promise_on_new_articles():
    """Tuned on a thousand articles, scored on many more: 0.98 is reached, almost always."""
    kept = {"exact": 0, "safe": 0}
    for seed in range(20):
        rng = np.random.default_rng(seed)
        truth = rng.random((21_000, 1)) < 0.1
        probabilities = 1 / (1 + np.exp(-rng.normal(truth * 3.0 - 2, 1)))
        few, many = slice(0, 1000), slice(1000, None)
        known = np.ones_like(truth)
        for name, resamples in (("exact", 0), ("safe", 50)):
            points = tune_thresholds(
                truth[few], known[few], probabilities[few], resamples=resamples
            )
            yes = probabilities[many] >= points["sensitive"][0]
            kept[name] += yes[truth[many]].mean() >= 0.98
    assert kept["safe"] >= 17
    assert kept["exact"] <= 12
