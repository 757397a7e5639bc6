"""`studytag.json`: what a model folder or a bundle is, in one versioned document.

Training writes one into the best model's folder (variant `pytorch`), export one into the bundle
(variants `fp32` and `int8`). It holds all that a reader must know to turn an article into
decisions, the SHA-256 of every other file, and one of itself.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeGuard

import numpy as np
from numpy.typing import NDArray

from studytag.documents import read_json
from studytag.errors import BundleError, InputError
from studytag.evaluation.scores import Scores
from studytag.hashing import sha256
from studytag.labels import LabelSet
from studytag.records import TextRecipe

MANIFEST = "studytag.json"
SCHEMA_VERSION = 2
TOKENIZER = "tokenizer.json"

OperatingPoint = Literal["f1", "label_f1", "sensitive", "balanced", "precise", "fixed"]
DEFAULT_OPERATING_POINT: OperatingPoint = "f1"
FIXED: OperatingPoint = "fixed"

Engine = Literal["onnxruntime", "openvino"]
"""What runs a graph."""

Thresholds = dict[str, list[float]]
"""Operating point to thresholds, one per label in label order."""

_ADVICE = "copy the whole folder again, or train or export it again"


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
        parity: How far its probabilities lie from PyTorch's (`max_abs_difference`, ...).
        adjustment: What readers apply to its logits.
    """

    file: str
    thresholds: Mapping[str, Sequence[float]]
    scores: Mapping[str, Scores] = field(default_factory=dict)
    parity: Mapping[str, float] = field(default_factory=dict)
    adjustment: Adjustment = field(default_factory=Adjustment)

    @property
    def engine(self) -> Engine:
        """What runs the graph; OpenVINO's have a suffix of their own."""
        return "openvino" if self.file.endswith(".xml") else "onnxruntime"

    @property
    def files(self) -> tuple[str, ...]:
        """All that is read for this variant alone; OpenVINO keeps weights beside the graph."""
        weights = self.file.removesuffix(".xml") + ".bin"
        return (self.file, weights) if self.engine == "openvino" else (self.file,)


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
class Manifest:
    """What `studytag.json` holds.

    Attributes:
        labels: The columns of every probability array, and what they imply.
        text_recipe: How title and abstract become text.
        max_length: Texts are cut to this many tokens, special tokens included.
        encoder: The encoder that was fine-tuned.
        variants: By name: `pytorch` in a model folder; `fp32`, mostly `int8`, and
            `int8-openvino` where it was asked for, in a bundle.
        truncation_side: The side on which a long text loses tokens.
        calibration: How logits became calibrated.
        prevalence: Each label's share among the articles that calibration was fitted to.
        files: SHA-256 (hex) of every other file, by POSIX path inside the folder.
        versions: Packages that made the folder.
        training: Where the weights come from (epoch, loss, tables); free of article text.
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

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, schema version first; without the checksum."""
        return {
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

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Manifest:
        """Read the JSON form.

        Raises:
            BundleError: written by a newer studytag, or an entry is missing or of the wrong kind.
        """
        schema = stored.get("schema_version")
        if schema != SCHEMA_VERSION:
            raise BundleError(
                f"schema_version is {schema!r}, this studytag reads {SCHEMA_VERSION}; "
                "update studytag, or train or export again"
            )
        try:
            implications = {name: tuple(to) for name, to in stored["implications"].items()}
            manifest = cls(
                labels=LabelSet(tuple(stored["labels"]), implications),
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
            )
            manifest._check()
        except (KeyError, TypeError, ValueError, AttributeError, InputError) as error:
            raise BundleError(f"entry {error} is missing or malformed; {_ADVICE}") from error
        return manifest

    def thresholds(self, variant: str, operating_point: str) -> list[float]:
        """The thresholds of an operating point, in label order.

        Raises:
            InputError: the variant has no such operating point.
        """
        points = self.variants[variant].thresholds
        if operating_point not in points:
            raise InputError(
                f"no operating point {operating_point!r}; choose from: {', '.join(points)}"
            )
        return list(points[operating_point])

    def _check(self) -> None:
        if type(self.max_length) is not int or self.max_length < 3:
            raise BundleError(f"max_length is {self.max_length!r}, not a number from 3; {_ADVICE}")
        if self.truncation_side not in ("right", "left"):
            raise BundleError(f"truncation_side {self.truncation_side!r} is unknown")
        if self.calibration.method not in ("platt", "none"):
            raise BundleError(
                f"calibration method {self.calibration.method!r} is unknown; update studytag"
            )
        if not all(_is_share(value) for value in self.prevalence.values()):
            raise BundleError(f"prevalence must be between 0 and 1; {_ADVICE}")
        self._check_files()
        for name, variant in self.variants.items():
            self._check_adjustment(name, variant.adjustment)
            for file in variant.files:
                if file not in self.files:
                    raise BundleError(f"variant {name!r}: {file} has no checksum; {_ADVICE}")
            for point, thresholds in variant.thresholds.items():
                if len(thresholds) != len(self.labels) or not all(map(_is_share, thresholds)):
                    raise BundleError(
                        f"variant {name!r}, operating point {point!r}: expected "
                        f"{len(self.labels)} thresholds between 0 and 1; {_ADVICE}"
                    )

    def _check_files(self) -> None:
        for name in self.files:
            if not _is_inside(name):
                raise BundleError(f"{name!r} is not a path inside the folder; {_ADVICE}")

    def _check_adjustment(self, variant: str, adjustment: Adjustment) -> None:
        for kind, lines in (("slope", adjustment.slope), ("offset", adjustment.offset)):
            for label, value in lines.items():
                usable = _is_number(value) and (kind == "offset" or value > 0)
                if label not in self.labels.names or not usable:
                    raise BundleError(
                        f"variant {variant!r}: {kind} of {label!r} is {value!r}; {_ADVICE}"
                    )


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `studytag.json`; call it last, when every other file is in place."""
    content = manifest.to_dict()
    document = content | {"checksum": _checksum(content)}
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8", newline="\n")


def load_manifest(folder: str | Path, variants: Sequence[str] | None = None) -> Manifest:
    """Read the manifest of a model folder or bundle, and verify the folder's files.

    Args:
        folder: What training or export made.
        variants: Verify only these variants' files, so that serving one does not pay for reading
            the other; None verifies all. Every other file is always verified.

    Raises:
        BundleError: no manifest, a newer schema, or a file (the manifest too) is missing or
            altered.
    """
    folder = Path(folder)
    path = folder / MANIFEST
    if not path.is_file():
        raise BundleError(
            f"{folder} is neither a model folder nor a bundle: it has no {MANIFEST}; "
            "train one (studytag train) or export one (studytag export)"
        )
    stored = read_json(path, _ADVICE, BundleError)
    checksum = stored.pop("checksum", None)
    if stored.get("schema_version") == SCHEMA_VERSION and checksum != _checksum(stored):
        raise BundleError(f"{path} has been altered (its checksum differs); {_ADVICE}")
    try:
        manifest = Manifest.from_dict(stored)
    except BundleError as error:
        raise BundleError(f"{path}: {error}") from error
    graphs = {file for variant in manifest.variants.values() for file in variant.files}
    for name in manifest.files.keys() - graphs:
        _verify(folder / name, manifest.files[name])
    for name in manifest.variants if variants is None else variants:
        verify_variant(folder, manifest, name)
    return manifest


def verify_variant(folder: Path, manifest: Manifest, variant: str) -> None:
    """Check the weights of one variant against their checksum.

    Raises:
        BundleError: the file is missing or altered.
    """
    for name in manifest.variants[variant].files:
        _verify(folder / name, manifest.files[name])


def refuse_foreign_folder(folder: Path) -> None:
    """Refuse a place for a bundle that holds anything but an earlier one.

    Raises:
        InputError: the folder has files and no manifest.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MANIFEST).is_file():
        raise InputError(f"{folder}: holds something other than a bundle; name another folder")


def package_versions(packages: Sequence[str]) -> dict[str, str]:
    """The installed versions of `packages`; those that are not installed are left out."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _variant(stored: Mapping[str, Any]) -> Variant:
    scores = {point: Scores.from_dict(entry) for point, entry in stored["scores"].items()}
    adjustment = Adjustment(**stored["adjustment"])
    return Variant(stored["file"], stored["thresholds"], scores, stored["parity"], adjustment)


def _variant_to_dict(variant: Variant) -> dict[str, Any]:
    return {
        "file": variant.file,
        "thresholds": {point: list(values) for point, values in variant.thresholds.items()},
        "scores": {point: scores.to_dict() for point, scores in variant.scores.items()},
        "parity": dict(variant.parity),
        "adjustment": asdict(variant.adjustment),
    }


def _checksum(content: Mapping[str, Any]) -> str:
    """SHA-256 of the content as canonical JSON: sorted keys, no white space."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and not {"..", "\\"} & {*path.parts, *name}


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and type(value) is not bool and math.isfinite(value)


def _is_share(value: object) -> bool:
    return _is_number(value) and 0 <= value <= 1


def _verify(path: Path, expected: str) -> None:
    if not path.is_file():
        raise BundleError(f"{path} is missing; {_ADVICE}")
    if sha256(path) != expected:
        raise BundleError(f"{path} has changed since it was written (SHA-256 differs); {_ADVICE}")
