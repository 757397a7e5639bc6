"""A bundle made to fit another place: its own labelled articles, or its own prevalence.

No retraining: the graphs stay as they are. A line for each label through the logits and the
thresholds are refitted, and stored with where they come from in a new bundle.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from studytag.dataset import load_evaluable, table_hash
from studytag.errors import InputError
from studytag.evaluation.calibration import calibrate, enough_to_calibrate
from studytag.evaluation.metrics import score_points
from studytag.evaluation.prevalence import (
    estimate_prevalence,
    label_prevalence,
    logit,
    prevalence_offset,
)
from studytag.evaluation.scores import LabelScores, Scores
from studytag.evaluation.thresholds import MIN_POSITIVES, tune_thresholds
from studytag.export.config import repeat_thresholds
from studytag.export.golden import seal_bundle
from studytag.export.place import refuse_place
from studytag.files import atomic_folder, write_text_atomically
from studytag.hardware import available_cores
from studytag.hashing import sha256
from studytag.inference.model import Model, sigmoid
from studytag.labels import LabelSet, implied_labels
from studytag.manifest import (
    CARD,
    MANIFEST,
    RECALIBRATED,
    Adjustment,
    Manifest,
    Variant,
    load_manifest,
)

logger = logging.getLogger(__name__)

PREVALENCE_FREE = ("sensitive", "balanced")
"""Operating points that promise something of positives and negatives apart (recall; Youden's J):
the same articles must stay tagged when prevalence changes. The others promise something of the
articles that are tagged, which a threshold on the probability keeps by itself."""


FEWEST_UNLABELLED = 50
"""Articles without labels that prevalence is estimated from. The share of 50 has a standard error
of up to 7 points; that of fewer says more of chance than of the place."""


def recalibrate(bundle: str | Path, table: str | Path, output: str | Path) -> Manifest:
    """Refit calibration and thresholds on a user's labelled articles.

    A label with too few known articles there keeps its line and its thresholds. It is left without
    scores: its thresholds were not tuned on these articles, as is said of all scores.

    Args:
        bundle: What export made.
        table: Labelled articles of the place where the tagger will be used.
        output: The new bundle.

    Returns:
        Its manifest; `training[RECALIBRATED]` says on what.

    Raises:
        InputError: the table is unusable or changes no label, or `output` holds anything but an
            earlier bundle, or what this one is made of.
        BundleError: the bundle is damaged.
    """
    bundle, output = Path(bundle), Path(output)
    refuse_place(output, (bundle, table))
    manifest = load_manifest(bundle)
    labels = manifest.labels
    articles = load_evaluable(table, labels)
    texts = manifest.text_recipe.compose_records(articles.rows)
    enough = dict(
        zip(labels, enough_to_calibrate(articles.truth, articles.known).tolist(), strict=True)
    )
    variants, kept_lines = {}, set[str]()
    for name, variant in manifest.variants.items():
        logits = logit(raw_probabilities(bundle, manifest, name, texts))
        fitted = calibrate(articles.truth, articles.known, logits)
        untouched = (fitted.slope == 1) & (fitted.offset == 0)
        slope, offset = variant.adjustment.lines(labels)
        slope = np.where(untouched, slope, fitted.slope)
        offset = np.where(untouched, offset, fitted.offset)
        probabilities = labels.raise_implied(adjusted(logits, slope, offset))
        thresholds = tune_thresholds(articles.truth, articles.known, probabilities)
        kept = {
            point: np.where(untouched, before, thresholds[point]).tolist()
            for point, before in variant.thresholds.items()
        }
        variants[name] = replace(
            variant,
            adjustment=adjustment_of(labels, slope, offset),
            thresholds=kept,
            scores={
                point: _without(scores, labels.decode(untouched))
                for point, scores in score_points(
                    labels, articles.truth, articles.known, probabilities, kept
                ).items()
            },
        )
        logger.info(
            "%s: micro-F1 %.4f on %s", name, variants[name].scores["f1"].micro.f1, Path(table).name
        )
        for label in (label for label, same in zip(labels, untouched, strict=True) if same):
            contradicted = "these labels contradict its ranking; check them"
            why = contradicted if enough[label] else "too few known articles"
            logger.warning("%s: %s keeps its calibration: %s", name, label, why)
            kept_lines.add(label)
    if all(
        each.adjustment == manifest.variants[name].adjustment for name, each in variants.items()
    ):
        raise InputError(
            f"{table}: fits no label anew; each needs at least {MIN_POSITIVES} articles known to "
            "have it, as many known to lack it, and a ranking that they do not contradict"
        )
    refitted = label_prevalence(labels, articles.truth, articles.known)
    refitted = {label: share for label, share in refitted.items() if label not in kept_lines}
    provenance = {
        "table": Path(table).name,
        "hash": table_hash(Path(table)),
        "articles": len(articles),
        "from_bundle": sha256(bundle / MANIFEST),
    }
    new = replace(
        manifest,
        variants=variants,
        prevalence={**manifest.prevalence, **refitted},
        training={**manifest.training, RECALIBRATED: provenance},
    )
    if new.measured_on_learned:
        logger.warning(
            "%s: the model learned from these articles, or its words did: what is fitted to them "
            "is too good; give articles that it has not learned from",
            table,
        )
    return _write(bundle, output, new)


def shift_prevalence(
    bundle: str | Path, prevalence: Mapping[str, float], output: str | Path
) -> Manifest:
    """Move probabilities to a prevalence that the user states.

    Args:
        bundle: What export made.
        prevalence: By label, between 0 and 1; other labels stay as they are.
        output: The new bundle.

    Raises:
        InputError: an unknown label, a share that is not between 0 and 1, shares of which, with
            those that stay, one is above that of a label which it implies, a bundle that does not
            say what prevalence it is for, or `output` holds anything but an earlier bundle, or is
            the bundle itself.
        BundleError: the bundle is damaged.
    """
    bundle, output = Path(bundle), Path(output)
    refuse_place(output, (bundle,))
    manifest = load_manifest(bundle)
    _check_prevalence(bundle, manifest, prevalence)
    labels = manifest.labels
    before = np.array([manifest.prevalence.get(name, 0.5) for name in labels])
    after = before.copy()
    for label, share in prevalence.items():
        after[labels.names.index(label)] = share
    offset = prevalence_offset(before, after)
    variants = {
        name: _shifted(variant, labels, offset) for name, variant in manifest.variants.items()
    }
    return _write(
        bundle,
        output,
        replace(
            manifest,
            variants=variants,
            prevalence={**manifest.prevalence, **prevalence},
            training={
                **manifest.training,
                "prevalence": {
                    "stated": dict(prevalence),
                    "from_bundle": sha256(bundle / MANIFEST),
                },
            },
        ),
    )


def _check_prevalence(bundle: Path, manifest: Manifest, prevalence: Mapping[str, float]) -> None:
    for label, share in prevalence.items():
        if label not in manifest.labels.names:
            raise InputError(
                f"unknown label {label!r}; the labels are {', '.join(manifest.labels)}"
            )
        if not 0 < share < 1:
            raise InputError(f"prevalence of {label} must be between 0 and 1, not {share!r}")
        if label not in manifest.prevalence:
            raise InputError(
                f"{bundle} does not say how frequent {label} was in calibration; "
                "calibrate on labelled articles instead"
            )
    shares = {**manifest.prevalence, **prevalence}
    for label, share in shares.items():
        for other in implied_labels(manifest.labels.implications, label):
            if {label, other} & prevalence.keys() and share > shares.get(other, 1):
                raise InputError(
                    f"prevalence of {label} ({share:g}) is above that of {other} "
                    f"({shares[other]:g}), which every {label} is too; state shares of both that "
                    "agree"
                )


def estimate_bundle_prevalence(
    bundle: str | Path, records: Iterable[Mapping[str, object]]
) -> dict[str, float]:
    """How frequent each label is among unlabelled articles, by expectation-maximisation.

    Args:
        bundle: What export made.
        records: Articles of the place where the tagger will be used; those without text are left
            out.

    Returns:
        A share for each label whose prevalence in calibration is known; none is above that of a
        label which it implies.

    Raises:
        InputError: fewer than `FEWEST_UNLABELLED` records have text.
        BundleError: the bundle is damaged.
    """
    bundle = Path(bundle)
    manifest = load_manifest(bundle)
    texts = []
    for record in records:
        try:
            texts.append(manifest.text_recipe.compose_record(record))
        except InputError:
            continue
    _refuse_few(len(texts))
    name = next(iter(manifest.variants))
    slope, offset = manifest.variants[name].adjustment.lines(manifest.labels)
    probabilities = raw_probabilities(bundle, manifest, name, texts, skip=True)
    _refuse_few(len(probabilities))
    names = [label for label in manifest.labels if label in manifest.prevalence]
    if not names:
        raise InputError(
            f"{bundle} does not say how frequent its labels were in calibration; calibrate on "
            "labelled articles instead"
        )
    columns = [manifest.labels.names.index(label) for label in names]
    before = np.array([manifest.prevalence[label] for label in names])
    estimate = np.zeros(len(manifest.labels))
    estimate[columns] = estimate_prevalence(
        adjusted(logit(probabilities), slope, offset)[:, columns], before
    )
    agreeing = manifest.labels.raise_implied(estimate)[columns]
    return dict(zip(names, agreeing.tolist(), strict=True))


def _refuse_few(count: int) -> None:
    if count < FEWEST_UNLABELLED:
        raise InputError(
            f"{count} articles with a title or an abstract; an estimate needs "
            f"{FEWEST_UNLABELLED} or more: add some, or state the prevalence that you know"
        )


def raw_probabilities(
    bundle: Path, manifest: Manifest, variant: str, texts: Sequence[str], skip: bool = False
) -> NDArray[np.float32]:
    """A graph's probabilities, shape (n, labels): unadjusted, without what labels imply.

    Raises:
        InputError: the tokenizer leaves nothing of a text, and `skip` does not leave it out.
    """
    plain = replace(
        manifest,
        labels=LabelSet(manifest.labels.names),
        variants={variant: replace(manifest.variants[variant], adjustment=Adjustment())},
    )
    model = Model(bundle, plain, variant)

    def read(number: int, text: str) -> NDArray[np.float32] | None:
        try:
            return model.read(text).probabilities
        except InputError as error:
            if skip:
                return None
            raise InputError(f"article {number}: {error}") from error

    with ThreadPoolExecutor(available_cores()) as pool:
        rows = pool.map(read, range(1, len(texts) + 1), texts)
        return np.array([row for row in rows if row is not None])


def adjusted(
    logits: NDArray[np.float64], slope: NDArray[np.float64], offset: NDArray[np.float64]
) -> NDArray[np.float32]:
    """The probabilities of logits, shape (n, labels), after a line for each label."""
    return sigmoid((logits * slope + offset).astype(np.float32))


def _shifted(variant: Variant, labels: LabelSet, offset: NDArray[np.float64]) -> Variant:
    """A variant with its logits moved, and the prevalence-free thresholds with them."""
    slope, before = variant.adjustment.lines(labels)
    thresholds = {
        point: (
            sigmoid((logit(np.array(values)) + offset).astype(np.float32)).tolist()
            if point in PREVALENCE_FREE
            else list(values)
        )
        for point, values in variant.thresholds.items()
    }
    # Scores were measured at the prevalence of before; they say nothing of the new place.
    return replace(
        variant,
        adjustment=adjustment_of(labels, slope, before + offset),
        thresholds=thresholds,
        scores={},
    )


def adjustment_of(
    labels: LabelSet, slope: NDArray[np.float64], offset: NDArray[np.float64]
) -> Adjustment:
    """The lines as a manifest stores them."""
    return Adjustment(
        {name: value for name, value in zip(labels, slope.tolist(), strict=True) if value != 1},
        {name: value for name, value in zip(labels, offset.tolist(), strict=True) if value},
    )


def _without(scores: Scores, names: Collection[str]) -> Scores:
    """Scores that leave some labels unmeasured."""
    unmeasured = {
        name: LabelScores(0.0, 0.0, 0.0, None, None, 0, 0, scores.labels[name].threshold)
        for name in names
    }
    return replace(scores, labels=scores.labels | unmeasured)


def _with_note(card: str) -> str:
    """A card that says whose figures it has; the note stands behind its metadata."""
    note = "> Calibrated anew since: thresholds and figures below are those of the bundle before.\n"
    if note in card:
        return card
    parts = card.split("---\n", 2)
    if card.startswith("---\n") and len(parts) == 3:
        return f"---\n{parts[1]}---\n\n{note}{parts[2]}"
    return f"{note}\n{card}"


def _write(bundle: Path, output: Path, manifest: Manifest) -> Manifest:
    """The bundle's files under the new manifest, complete or not at all."""
    with atomic_folder(output) as folder:
        for name in manifest.files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(bundle / name, folder / name)
        if (bundle / CARD).is_file():
            card = (bundle / CARD).read_text(encoding="utf-8")
            write_text_atomically(folder / CARD, _with_note(card))
        repeat_thresholds(folder, manifest)
        manifest = seal_bundle(folder, manifest)
    logger.info("wrote %s", output)
    return manifest
