"""What a model that learned from every article takes from a bundle whose model did not.

Calibration, thresholds and scores need articles that the model never learned from. A recipe that is
settled can learn from these as well, and then none are left. What was fitted to the same recipe's
outputs on articles held out is the best that is known of the new model's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from studytag.errors import InputError
from studytag.evaluation.calibration import Calibration
from studytag.export.ngrams import Blend
from studytag.labels import LabelSet
from studytag.manifest import FAST, CalibrationRecord, Manifest, load_manifest
from studytag.training.head import output_layer
from studytag.training.model_folder import TrainedModel, calibrated_weights

_BLEND = "ngrams"
_FREE_OPTIONS = {"seed", "calibrate", "max_train_steps"}
"""Who learns from more articles takes more steps."""
_FITTED_ANEW = {"recalibrated", "prevalence", "like"}
"""Entries of `training` in bundles whose thresholds are of no articles that export read."""


def load_precedent(
    bundle: Path,
    trained: TrainedModel,
    with_words: bool,
    variants: Sequence[str],
    fast_tokens: int | None,
) -> Manifest:
    """The manifest of a bundle that another can follow.

    Args:
        bundle: As export made it of a model that never learned from the validation articles.
        trained: By the same recipe.
        with_words: Whether words will be added to `trained`.
        variants: What will be made.
        fast_tokens: What the transformer will read in the variant `fast`, if it is among them.

    Raises:
        InputError: it was made in another way, calibrated anew, or lacks a variant.
        BundleError: it is damaged.
    """
    precedent = load_manifest(bundle)
    ours, theirs = _recipe(trained.manifest), _recipe(precedent)
    different = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
    if with_words != (_BLEND in precedent.training):
        different.append("words")
    if different:
        raise InputError(
            f"{bundle} cannot be followed: it differs from the model in {', '.join(different)}; "
            "name a bundle of a model that was trained in the same way"
        )
    if _FITTED_ANEW & precedent.training.keys():
        raise InputError(
            f"{bundle} cannot be followed: it was calibrated anew, or follows another itself; name "
            "a bundle as studytag export made it from articles held out"
        )
    if missing := [name for name in variants if name not in precedent.variants]:
        raise InputError(
            f"{bundle} cannot be followed: it has no variant {' and no '.join(missing)}; export it "
            f"again with --variants {' '.join(variants)}, or leave them out here"
        )
    if fast_tokens is not None and fast_tokens != precedent.variants[FAST].tokens:
        raise InputError(
            f"option fast_tokens must be {precedent.variants[FAST].tokens}, as in {bundle}, not "
            f"{fast_tokens}"
        )
    if with_words:
        blend_of(precedent)
    return precedent


def _recipe(manifest: Manifest) -> dict[str, object]:
    """What decides how a model's outputs are spread, by the name that a message gives it."""
    options = manifest.training.get("options", {})
    return {
        "labels": (manifest.labels.names, dict(manifest.labels.implications)),
        "text recipe": manifest.text_recipe,
        "length of texts": manifest.max_length,
        "encoder": manifest.encoder,
        **{f"option {name}": options[name] for name in options if name not in _FREE_OPTIONS},
    }


def calibrated_like(trained: TrainedModel, precedent: Manifest) -> TrainedModel:
    """The model with the precedent's calibration in the place of its own; changes its weights.

    Raises:
        InputError: its output layer cannot be calibrated.
    """
    labels = trained.manifest.labels
    before = _line(trained.manifest.calibration, labels)
    after = _line(precedent.calibration, labels)
    slope = after.slope / before.slope
    change = Calibration(slope, after.offset - slope * before.offset)
    layer = output_layer(trained.model)
    if layer is None and (change.slope != 1).any():
        raise InputError(
            "the model's outputs are of no linear layer, and cannot be calibrated as another's were"
        )
    weights = calibrated_weights(trained.model.state_dict(), layer, change)
    trained.model.load_state_dict(weights)
    manifest = replace(trained.manifest, calibration=precedent.calibration)
    return replace(trained, manifest=manifest)


def _line(record: CalibrationRecord, labels: LabelSet) -> Calibration:
    slope = [record.slope.get(name, 1.0) for name in labels]
    offset = [record.offset.get(name, 0.0) for name in labels]
    return Calibration(np.array(slope), np.array(offset))


def blend_of(precedent: Manifest) -> Blend:
    """How its words are weighed.

    Raises:
        InputError: it does not say.
    """
    try:
        return Blend.from_dict(precedent.training[_BLEND])
    except KeyError as error:
        raise InputError(
            "the bundle to follow was made by an earlier studytag, and does not say how its words "
            "are weighed; export it again"
        ) from error


def adjusted_like(draft: Manifest, precedent: Manifest) -> Manifest:
    """The draft with the precedent's adjustment and weight of the variant `fast`."""
    if FAST not in draft.variants:
        return draft
    theirs = precedent.variants[FAST]
    fast = replace(draft.variants[FAST], adjustment=theirs.adjustment, weight=theirs.weight)
    return replace(draft, variants={**draft.variants, FAST: fast})


def decided_like(manifest: Manifest, precedent: Manifest) -> Manifest:
    """The manifest with the precedent's thresholds, scores and prevalence, and saying so."""
    variants = {
        name: replace(
            variant,
            thresholds=precedent.variants[name].thresholds,
            scores=precedent.variants[name].scores,
        )
        for name, variant in manifest.variants.items()
    }
    training = {**manifest.training, "like": dict(precedent.training)}
    return replace(manifest, variants=variants, prevalence=precedent.prevalence, training=training)
