"""What a manifest says, typed, and its JSON form."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from studytag.errors import BundleError, InputError
from studytag.evaluation.scores import Scores
from studytag.labels import LabelSet
from studytag.manifest.checks import ADVICE, is_number
from studytag.manifest.schema import OPENVINO, SCHEMA_VERSION, check_document, weights_file
from studytag.records import TextRecipe

OperatingPoint = Literal["f1", "label_f1", "sensitive", "balanced", "precise", "fixed"]
DEFAULT_OPERATING_POINT: OperatingPoint = "f1"
FIXED: OperatingPoint = "fixed"
OPERATING_POINTS: Mapping[str, str] = {
    "f1": "The best balance of misses and false alarms, also where a label is rarer",
    "label_f1": "The best balance where labels are as common as among the articles of the tuning",
    "sensitive": "Misses very few: aims at 98 % of the articles with a label, at more false alarms",
    "balanced": "The highest sensitivity and specificity together",
    "precise": "Few false alarms: aims at 95 % of the tags being right",
    "fixed": "A probability of one half for each label",
}
"""What each operating point promises, in words for people."""

Thresholds = dict[str, list[float]]
"""Operating point to thresholds, one per label in label order."""


_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")

Engine = Literal["onnxruntime", "openvino"]
"""What runs a graph."""

FAST = "fast"
"""The variant that does less work; never chosen unless it is asked for."""

FAST_TOKENS = 104
"""Tokens of a text that the transformer reads in it unless export is told otherwise. On sources
never seen they rank as whole texts do (docs/experiments.md)."""

FOLLOWS = "like"
"""The entry of `training` in a bundle that took its decisions over from another: the latter's."""

TUNED_ON = "tuned_on"
"""The entry of `training` in a bundle that names the table of its thresholds, by a hash."""

WORDS_FROM = "words_from"
"""The entry of `training` in a bundle that names the table of `--ngrams`, by a hash."""

RECALIBRATED = "recalibrated"
"""The entry of `training` in a bundle that was fitted to a user's labelled articles: to which."""

LEARNED_BY_CHANCE = 0.05
"""The share of validation articles that training may hold before their scores mean little."""

READ_TOKENS = "studytag_tokens"
"""What a graph calls the number of tokens that its transformer reads; its default is all."""

WEIGHT = "studytag_weight"
"""What a graph calls the factor of its transformer's logits beside the words; its default is 1."""


@dataclass(frozen=True)
class Adjustment:
    """A line for each label that readers apply to the logits, made after export.

    `studytag calibrate` writes it: a refit on a user's own articles, or a shift to another
    prevalence.

    Attributes:
        slope: By label, above 0; labels that are not named keep 1.
        offset: By label; labels that are not named keep 0.
    """

    slope: Mapping[str, float] = field(default_factory=dict)
    offset: Mapping[str, float] = field(default_factory=dict)

    def lines(self, labels: LabelSet) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Slope and offset in label order, each of shape (labels,)."""
        slope = np.array([self.slope.get(name, 1.0) for name in labels])
        offset = np.array([self.offset.get(name, 0.0) for name in labels])
        return slope, offset

    def __bool__(self) -> bool:
        return bool(self.slope or self.offset)


@dataclass(frozen=True)
class Variant:
    """One set of weights: `pytorch`, or a graph of ONNX or OpenVINO.

    Attributes:
        file: Its path inside the folder.
        thresholds: Tuned on this variant's own probabilities, in [0, 1].
        scores: On the validation table, by operating point.
        parity: How far its probabilities lie from PyTorch's (`max_abs_difference`, ...); empty for
            `fast`, which reads less.
        adjustment: What readers apply to its logits.
        tokens: So many of a text's tokens reach the transformer, those where the words say most;
            None is all of them.
        weight: The factor of the transformer's logits beside the words; None is 1.
    """

    file: str
    thresholds: Mapping[str, Sequence[float]]
    scores: Mapping[str, Scores] = field(default_factory=dict)
    parity: Mapping[str, float] = field(default_factory=dict)
    adjustment: Adjustment = field(default_factory=Adjustment)
    tokens: int | None = None
    weight: float | None = None

    @property
    def engine(self) -> Engine:
        """What runs the graph; OpenVINO's have a suffix of their own."""
        return "openvino" if self.file.endswith(OPENVINO) else "onnxruntime"


@dataclass(frozen=True)
class CalibrationRecord:
    """How logits were calibrated. The lines are part of the weights; readers need not apply them.

    Attributes:
        method: `platt` (a line per label through the logits) or `none`.
        slope: By label; empty for `none`.
        offset: By label; empty for `none`.
    """

    method: Literal["platt", "none"] = "none"
    slope: Mapping[str, float] = field(default_factory=dict)
    offset: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class GoldenArticle:
    """An invented article with the probabilities that it had when the bundle was made.

    `studytag doctor` predicts it again: a machine or a library on which it comes out differently
    is not one to trust.

    Attributes:
        title: Of the article.
        abstract: Of the article; may be empty.
        probabilities: Variant to one for each label, in label order.
    """

    title: str
    abstract: str
    probabilities: Mapping[str, Sequence[float]]

    def to_dict(self, variants: Iterable[str]) -> dict[str, Any]:
        """The JSON form, with the probabilities of these variants alone."""
        kept = {name: list(self.probabilities[name]) for name in variants}
        return {"title": self.title, "abstract": self.abstract, "probabilities": kept}


@dataclass(frozen=True)
class Manifest:
    """What `studytag.json` holds.

    Attributes:
        labels: The columns of every probability array, and what they imply.
        text_recipe: How title and abstract become text.
        max_length: Texts are cut to this many tokens, special tokens included.
        encoder: The encoder that was fine-tuned.
        variants: By name: `pytorch` in a model folder; `fp32`, mostly `int8`, and `fast` and
            `int8-openvino` where they were asked for, in a bundle.
        truncation_side: The side on which a long text loses tokens.
        calibration: How logits became calibrated.
        prevalence: Each label's share among the articles that calibration was fitted to.
        files: SHA-256 (hex) of every other file, by POSIX path inside the folder.
        versions: Packages that made the folder.
        training: Where the weights come from (epoch, loss, tables); free of article text.
        golden: Articles that a bundle must reproduce; none in a model folder.
    """

    labels: LabelSet
    text_recipe: TextRecipe
    max_length: int
    encoder: str
    variants: Mapping[str, Variant]
    truncation_side: Literal["right", "left"] = "right"
    calibration: CalibrationRecord = field(default_factory=CalibrationRecord)
    prevalence: Mapping[str, float] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    golden: Sequence[GoldenArticle] = ()

    @property
    def base_model(self) -> str | None:
        """The encoder's name on the Hub; None if it came from a folder or a package."""
        on_hub = _HUB_NAME.fullmatch(self.encoder) and not Path(self.encoder).exists()
        return self.encoder if on_hub else None

    @property
    def learned_validation(self) -> bool | None:
        """Whether the model learned from more than a few of its validation articles.

        None where nothing is said of it: by an earlier version, or by who trained elsewhere.
        """
        table = self.training_table("validation")
        learned, articles = table.get("learned"), table.get("articles")
        if not is_number(learned) or not is_number(articles):
            return None
        return bool(learned > LEARNED_BY_CHANCE * articles)

    def training_table(self, name: str) -> Mapping[str, Any]:
        """What `training` says of the table `train` or `validation`; nothing, if it does not."""
        tables = self.training.get("tables")
        table = tables.get(name) if isinstance(tables, Mapping) else None
        return table if isinstance(table, Mapping) else {}

    @property
    def measured_on(self) -> str:
        """What the variants' scores were measured on, as the end of a sentence."""
        articles = "the articles that the thresholds were tuned on"
        if self.measured_on_learned:
            return f"{articles}, which the model had learned from"
        if self._follows:
            return f"{articles}, by a model of the same recipe that had not learned from them"
        return articles

    @property
    def scores_note(self) -> str:
        """What a card says above the scores."""
        if self.measured_on_learned:
            return f"Measured on {self.measured_on}: they say nothing of others."
        return (
            f"Measured on {self.measured_on}.\nExpect slightly lower scores elsewhere. Cells whose "
            "label is unknown count nowhere."
        )

    @property
    def measured_on_learned(self) -> bool:
        """Whether the scores are of articles that the model learned from: they mean nothing."""
        if self._follows:
            return False
        validation = self.training_table("validation").get("hash")
        learned = [self.training_table("train").get("hash"), self.training.get(WORDS_FROM)]
        if self.learned_validation:
            learned.append(validation)
        refitted = self.training.get(RECALIBRATED)
        tuned_on = (
            refitted.get("hash")
            if isinstance(refitted, Mapping)
            else self.training.get(TUNED_ON, validation)
        )
        return tuned_on is not None and tuned_on in learned

    @property
    def _follows(self) -> bool:
        """Whether thresholds and scores are another model's."""
        return FOLLOWS in self.training and RECALIBRATED not in self.training

    @property
    def has_graphs(self) -> bool:
        """Whether it is a bundle's, and not a model folder's."""
        return any(name != "pytorch" for name in self.variants)

    def served_variants(self, folder: Path) -> list[str]:
        """The names of the variants that a predictor can load.

        Args:
            folder: Of this manifest, for the message.

        Raises:
            InputError: none; this is a model folder.
        """
        if not self.has_graphs:
            raise InputError(
                f"{folder} is a model folder, not a bundle; make one: "
                f"studytag export --model {folder}"
            )
        return [name for name in self.variants if name != "pytorch"]

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, schema version first; without the checksum."""
        content = {
            "schema_version": SCHEMA_VERSION,
            "encoder": self.encoder,
            "labels": list(self.labels),
            "implications": {name: list(to) for name, to in self.labels.implications.items()},
            "text_recipe": self.text_recipe.to_dict(),
            "max_length": self.max_length,
            "truncation_side": self.truncation_side,
            "calibration": asdict(self.calibration),
            "prevalence": dict(self.prevalence),
            "variants": {name: _variant_to_dict(each) for name, each in self.variants.items()},
            "training": dict(self.training),
            "versions": dict(self.versions),
            "files": dict(self.files),
        }
        if golden := [article.to_dict(self.variants) for article in self.golden]:
            content["golden"] = golden
        return content

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Manifest:
        """Read the JSON form.

        Raises:
            BundleError: written by a newer studytag, or an entry is missing or malformed.
        """
        check_document(stored)
        implications = {name: tuple(to) for name, to in stored["implications"].items()}
        try:
            labels = LabelSet(tuple(stored["labels"]), implications)
        except InputError as error:
            raise BundleError(f"{error}; {ADVICE}") from error
        return cls(
            labels=labels,
            text_recipe=TextRecipe.from_dict(stored["text_recipe"]),
            max_length=stored["max_length"],
            encoder=stored["encoder"],
            variants={name: _variant(entry) for name, entry in stored["variants"].items()},
            truncation_side=stored["truncation_side"],
            calibration=CalibrationRecord(**stored["calibration"]),
            prevalence=dict(stored["prevalence"]),
            files=dict(stored["files"]),
            versions=dict(stored["versions"]),
            training=dict(stored["training"]),
            golden=tuple(GoldenArticle(**entry) for entry in stored.get("golden", ())),
        )

    def thresholds(self, variant: str, operating_point: str) -> list[float]:
        """The thresholds of an operating point, in label order.

        Raises:
            InputError: nothing was tuned on the variant, or it has no such operating point.
        """
        if variant not in self.variants:
            raise InputError(
                f"no thresholds were tuned on {variant}; export the model, which tunes them: "
                "studytag export --model FOLDER --validation TABLE"
            )
        points = self.variants[variant].thresholds
        if operating_point not in points:
            raise InputError(
                f"no operating point {operating_point!r}; choose from: {', '.join(points)}"
            )
        return list(points[operating_point])

    def weights(self, variant: str) -> list[str]:
        """The files of a variant: its graph, and those that hold weights beside it."""
        graph = self.variants[variant].file
        return [name for name in (graph, weights_file(graph)) if name in self.files]


def _variant(stored: Mapping[str, Any]) -> Variant:
    scores = {point: Scores.from_dict(entry) for point, entry in stored["scores"].items()}
    adjustment = Adjustment(**stored["adjustment"])
    return Variant(
        stored["file"],
        stored["thresholds"],
        scores,
        stored["parity"],
        adjustment,
        stored.get("tokens"),
        stored.get("weight"),
    )


def _variant_to_dict(variant: Variant) -> dict[str, Any]:
    stored = {
        "file": variant.file,
        "thresholds": {point: list(values) for point, values in variant.thresholds.items()},
        "scores": {point: scores.to_dict() for point, scores in variant.scores.items()},
        "parity": dict(variant.parity),
        "adjustment": asdict(variant.adjustment),
    }
    fed = {"tokens": variant.tokens, "weight": variant.weight}
    return stored | {name: value for name, value in fed.items() if value is not None}
