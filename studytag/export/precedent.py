"""What a model that learned from every article takes from a bundle whose model did not.

Calibration, thresholds and scores need articles that the model never learned from. A recipe that is
settled can learn from these as well, and then none are left. What was fitted to the same recipe's
outputs on articles held out is the best that is known of the new model's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from studytag.dataset import table_hash
from studytag.errors import BundleError, InputError
from studytag.evaluation.calibration import Calibration
from studytag.export.ngrams import BLEND, Blend
from studytag.hashing import sha256
from studytag.labels import LabelSet
from studytag.manifest import (
    DEFAULT_OPERATING_POINT,
    FAST,
    FOLLOWS,
    MANIFEST,
    RECALIBRATED,
    TUNED_ON,
    Adjustment,
    CalibrationRecord,
    Manifest,
    Variant,
    load_manifest,
)
from studytag.training.config import TrainingConfig
from studytag.training.head import output_layer
from studytag.training.model_folder import TrainedModel, calibrated_weights

_FITTED_ANEW = {RECALIBRATED, "prevalence", FOLLOWS}
"""Entries of `training` in bundles whose thresholds export did not tune."""
_FREE_OPTIONS = (
    # Another seed is another model of the same recipe, and more articles take more steps.
    {"seed", "max_train_steps"}
    # What they decide is undone, or compared by itself.
    | {"calibrate", "early_stopping_patience", "max_length", "max_chars"}
    # The same arithmetic.
    | {"attn_implementation"}
)
"""Options that may differ."""


@dataclass(frozen=True)
class Precedent:
    """A bundle that another can follow.

    Attributes:
        manifest: Its manifest.
        blend: How its words are weighed; None if it has none.
        from_bundle: The SHA-256 of its manifest.
    """

    manifest: Manifest
    blend: Blend | None
    from_bundle: str


def load_precedent(
    bundle: Path, trained: TrainedModel, with_words: bool, variants: Sequence[str], table: Path
) -> Precedent:
    """A bundle that decides as that of `trained` is to.

    Args:
        bundle: As export made it of a model that never learned from the validation articles.
        trained: By the same recipe, the number of steps and the seed aside; learned from them.
        with_words: Whether words will be added to `trained`.
        variants: What will be made.
        table: The validation articles.

    Raises:
        InputError: it was made in another way or of other articles, calibrated anew, or lacks a
            variant; or `trained` did not learn from these articles.
        BundleError: it is damaged.
    """
    precedent = load_manifest(bundle)
    precedent.served_variants(bundle)
    refused = f"{bundle} cannot be followed"
    _check_learning(precedent, trained.manifest, refused)
    validation = table_hash(table)
    if validation != trained.manifest.training_table("validation").get("hash"):
        raise InputError(f"{table}: is not the validation table that the model was trained with")
    ours = _recipe(trained.manifest) | {"validation table": validation}
    theirs = _recipe(precedent) | {"validation table": precedent.training.get(TUNED_ON)}
    if different := [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]:
        stated = [f"{name} ({theirs.get(name)}, here {ours.get(name)})" for name in different]
        raise InputError(
            f"{refused}: it differs from the model in {', '.join(stated)}; train both in the same "
            "way, and export both with the same validation table"
        )
    blend = _blend(precedent, with_words, refused)
    offered = [name for name, each in precedent.variants.items() if _is_complete(name, each)]
    if missing := [name for name in variants if name not in offered]:
        raise InputError(
            f"{refused}: it has no variant {' and no '.join(missing)}; leave that out here, or "
            f"export the bundle with it, with --max-f1-drop if it loses too much"
        )
    return Precedent(precedent, blend, sha256(bundle / MANIFEST))


def _is_complete(name: str, variant: Variant) -> bool:
    """Whether a variant has what export gives it."""
    return DEFAULT_OPERATING_POINT in variant.scores and (
        name != FAST or variant.tokens is not None
    )


def _check_learning(precedent: Manifest, model: Manifest, refused: str) -> None:
    """Make sure that the model learned from the validation articles, and the precedent's did not.

    Raises:
        InputError: it is not so, or one of them does not say.
    """
    for manifest, which in ((precedent, f"{refused}: its model"), (model, "the model")):
        if not isinstance(manifest.training.get("options"), Mapping):
            raise InputError(f"{which} was not trained by studytag, which --like needs")
        if manifest.learned_validation is None:
            raise InputError(
                f"{which} does not say whether it learned from its validation articles: an earlier "
                "studytag trained it; train it again"
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
    if not model.learned_validation:
        raise InputError(
            "the model did not learn from its validation articles, so that they can tune its own "
            "thresholds; leave out --like"
        )


def _recipe(manifest: Manifest) -> dict[str, object]:
    """What decides how a model's outputs are spread, by the name that a message gives it."""
    # An option that an earlier version did not have was at its default.
    options = asdict(TrainingConfig()) | manifest.training["options"]
    if options["max_train_steps"]:
        options["num_train_epochs"] = "as many as the steps take"
    text = manifest.text_recipe.to_dict()
    return {
        "labels": ", ".join(manifest.labels),
        "implications": dict(manifest.labels.implications),
        **{f"{name} of texts": value for name, value in text.items()},
        "max_length": manifest.max_length,
        "encoder": manifest.encoder,
        "the epoch that was kept": manifest.training.get("epoch"),
        **{name: value for name, value in options.items() if name not in _FREE_OPTIONS},
    }


def _blend(precedent: Manifest, with_words: bool, refused: str) -> Blend | None:
    """How the precedent's words are weighed.

    Raises:
        InputError: it has words and the model has none, or the reverse; or it does not say how.
    """
    if with_words and BLEND not in precedent.training:
        raise InputError(
            f"{refused}: it has no words beside its transformer, and the model has; export it "
            "again, or leave out --ngrams here if you gave it"
        )
    if not with_words and BLEND in precedent.training:
        raise InputError(
            f"{refused}: it has words beside its transformer, and the model has none; name the "
            "table that it was trained on with --ngrams"
        )
    if not with_words:
        return None
    blend = Blend.from_dict(precedent.training[BLEND], len(precedent.labels))
    if blend is None:
        raise InputError(
            f"{refused}: it does not say how its words are weighed: an earlier studytag made it; "
            "export it again"
        )
    return blend


def calibrated_like(trained: TrainedModel, precedent: Manifest) -> TrainedModel:
    """The model with the precedent's calibration in the place of its own; changes its weights.

    Raises:
        InputError: its output layer cannot be calibrated.
        BundleError: a calibration is damaged.
    """
    labels = trained.manifest.labels
    before = _line(trained.manifest.calibration, labels)
    after = _line(precedent.calibration, labels)
    if not (before.slope > 0).all() or not (after.slope > 0).all():
        raise BundleError("entry calibration.slope is not above 0; train or export again")
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
    return Calibration(*Adjustment(record.slope, record.offset).lines(labels))


def decided_like(manifest: Manifest, precedent: Precedent) -> Manifest:
    """The manifest with the scores and prevalence of the precedent, and saying so."""
    other = precedent.manifest
    variants = {
        name: replace(variant, scores=other.variants[name].scores)
        for name, variant in manifest.variants.items()
    }
    followed = {"from_bundle": precedent.from_bundle, **other.training}
    training = {**manifest.training, FOLLOWS: followed}
    return replace(manifest, variants=variants, prevalence=other.prevalence, training=training)
