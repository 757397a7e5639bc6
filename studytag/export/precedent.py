"""What a model that learned from every article takes from a bundle whose model did not.

Calibration, thresholds and scores need articles that the model never learned from. A recipe that is
settled can learn from these as well, and then none are left. What was fitted to the same recipe's
outputs on articles held out is the best that is known of the new model's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from studytag.errors import InputError
from studytag.evaluation.calibration import Calibration
from studytag.export.ngrams import Blend
from studytag.hashing import sha256
from studytag.labels import LabelSet
from studytag.manifest import FOLLOWS, MANIFEST, CalibrationRecord, Manifest, load_manifest
from studytag.training.config import NEUTRAL_OPTIONS, TrainingConfig
from studytag.training.head import output_layer
from studytag.training.model_folder import TrainedModel, calibrated_weights

_BLEND = "ngrams"
"""The entry of `training` that says how words are weighed."""
_FITTED_ANEW = {"recalibrated", "prevalence", FOLLOWS}
"""Entries of `training` in bundles whose thresholds are of no articles that export read."""
_FREE_OPTIONS = (
    # Another seed is another model of the same recipe, and more articles take more steps.
    {"seed", "max_train_steps", "num_train_epochs", "num_warmup_steps"}
    # What they decide is undone, or compared by itself.
    | {"calibrate", "early_stopping_patience", "max_length", "max_chars"}
    # The same arithmetic.
    | {"attn_implementation"}
)
"""Options that may differ."""
_PATHS = NEUTRAL_OPTIONS | {"model_name_or_path", "train_file", "validation_file"}
"""Options that no manifest holds."""


def load_precedent(
    bundle: Path, trained: TrainedModel, with_words: bool, variants: Sequence[str]
) -> Manifest:
    """The manifest of a bundle that another can follow.

    Args:
        bundle: As export made it of a model that never learned from the validation articles.
        trained: By the same recipe, the number of steps and the seed aside.
        with_words: Whether words will be added to `trained`.
        variants: What will be made.

    Raises:
        InputError: it was made in another way, calibrated anew, or lacks a variant.
        BundleError: it is damaged.
    """
    precedent = load_manifest(bundle)
    refused = f"{bundle} cannot be followed"
    for manifest, whose in ((precedent, f"{refused}: it"), (trained.manifest, "the model")):
        if "options" not in manifest.training:
            raise InputError(
                f"{whose} does not say how it was trained; --like needs models that studytag "
                "trained, and the bundle of one"
            )
    if _FITTED_ANEW & precedent.training.keys():
        raise InputError(
            f"{refused}: it was calibrated anew, or follows another itself; name a bundle as "
            "studytag export made it from articles held out"
        )
    if precedent.learned_validation:
        raise InputError(
            f"{refused}: its model learned from its validation articles as well; name a bundle "
            "whose model did not"
        )
    ours, theirs = _recipe(trained.manifest), _recipe(precedent)
    if different := [name for name in ours if ours[name] != theirs[name]]:
        stated = ", ".join(f"{name} ({theirs[name]}, here {ours[name]})" for name in different)
        raise InputError(
            f"{refused}: it differs from the model in {stated}; train both in the same way"
        )
    if with_words != (_BLEND in precedent.training):
        raise InputError(
            f"{refused}: it has {'no words' if with_words else 'words'} beside its transformer; "
            f"{'leave out' if with_words else 'give'} --ngrams here, or export it again"
        )
    if missing := [name for name in variants if name not in precedent.variants]:
        raise InputError(
            f"{refused}: it has no variant {' and no '.join(missing)}; leave that out here, or "
            f"export the bundle with it, with --max-f1-drop if it loses too much"
        )
    if with_words and "slope" not in precedent.training[_BLEND]:
        raise InputError(
            f"{refused}: an earlier studytag made it, and it does not say how its words are "
            "weighed; export it again"
        )
    return precedent


def _recipe(manifest: Manifest) -> dict[str, object]:
    """What decides how a model's outputs are spread, by the name that a message gives it."""
    training = manifest.training
    # One that an earlier version did not have was at its default.
    options = asdict(TrainingConfig()) | training["options"]
    return {
        "labels": ", ".join(manifest.labels),
        "implications": dict(manifest.labels.implications),
        "text recipe": manifest.text_recipe,
        "max_length": manifest.max_length,
        "encoder": manifest.encoder,
        "validation table": manifest.training_table("validation").get("hash"),
        "the epoch that was kept": training.get("epoch"),
        **{name: options[name] for name in options if name not in _FREE_OPTIONS | _PATHS},
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
    if layer is None and ((change.slope != 1).any() or change.offset.any()):
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
    """How its words are weighed."""
    return Blend.from_dict(precedent.training[_BLEND])


def decided_like(manifest: Manifest, bundle: Path, precedent: Manifest) -> Manifest:
    """The manifest with the scores and prevalence of the precedent in `bundle`, and saying so."""
    variants = {
        name: replace(variant, scores=precedent.variants[name].scores)
        for name, variant in manifest.variants.items()
    }
    followed = {"from_bundle": sha256(bundle / MANIFEST), **precedent.training}
    training = {**manifest.training, FOLLOWS: followed}
    return replace(manifest, variants=variants, prevalence=precedent.prevalence, training=training)
