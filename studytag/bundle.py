"""The model bundle: one self-contained folder that training hands to serving.

    onnx/model.onnx, onnx/model_quantized.onnx, tokenizer.json, config.json, studytag.json

`studytag.json` is the manifest. Everything the predictor must know is in it, with the SHA-256 of
every file; it is checked whenever a bundle is loaded. No file is a pickle.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from studytag.errors import BundleError
from studytag.labels import LabelSet
from studytag.records import TextRecipe

MANIFEST = "studytag.json"
SCHEMA_VERSION = 1
DEFAULT_OPERATING_POINT = "micro_f1"
TOKENIZER = "tokenizer.json"


@dataclass(frozen=True)
class Variant:
    """One ONNX graph of a bundle.

    Attributes:
        file: Path of the graph inside the bundle.
        thresholds: For each operating point, one threshold in [0, 1] per label, in label order.
        metrics: Scores on the validation split, as `studytag.evaluation.metrics` writes them.
        parity: How far the graph's probabilities lie from PyTorch's (`max_abs_difference`).
    """

    file: str
    thresholds: Mapping[str, Sequence[float]]
    metrics: Mapping[str, Any] = field(default_factory=dict)
    parity: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """What `studytag.json` holds.

    Attributes:
        labels: The columns of every probability array.
        text_recipe: How title and abstract become text.
        max_length: Texts are cut to this many tokens, special tokens included.
        variants: `fp32` and, where it passed its gates, `quantized`.
        files: SHA-256 (hex) of every other file, by path inside the bundle.
        calibration: How logits become probabilities; only `sigmoid` is known to this version.
        versions: Packages that made the bundle.
        encoder: The encoder that was fine-tuned.
    """

    labels: LabelSet
    text_recipe: TextRecipe
    max_length: int
    variants: Mapping[str, Variant]
    files: Mapping[str, str]
    calibration: str = "sigmoid"
    versions: Mapping[str, str] = field(default_factory=dict)
    encoder: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, schema version first."""
        return {
            "schema_version": SCHEMA_VERSION,
            "encoder": self.encoder,
            "labels": list(self.labels),
            "text_recipe": self.text_recipe.to_dict(),
            "max_length": self.max_length,
            "calibration": self.calibration,
            "variants": {name: asdict(variant) for name, variant in self.variants.items()},
            "files": dict(self.files),
            "versions": dict(self.versions),
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Manifest:
        """Read the JSON form.

        Raises:
            BundleError: written by a newer studytag, or an entry is missing or of the wrong kind.
        """
        version = stored.get("schema_version")
        if version != SCHEMA_VERSION:
            raise BundleError(
                f"schema_version is {version!r}, this studytag reads {SCHEMA_VERSION}; "
                "update studytag or export the bundle again"
            )
        try:
            manifest = cls(
                labels=LabelSet(tuple(stored["labels"])),
                text_recipe=TextRecipe.from_dict(stored["text_recipe"]),
                max_length=int(stored["max_length"]),
                variants={name: Variant(**entry) for name, entry in stored["variants"].items()},
                files=dict(stored["files"]),
                calibration=stored["calibration"],
                versions=dict(stored["versions"]),
                encoder=stored["encoder"],
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BundleError(
                f"entry {error} is missing or malformed; export the bundle again"
            ) from error
        manifest._check()
        return manifest

    def _check(self) -> None:
        if self.calibration != "sigmoid":
            raise BundleError(f"calibration {self.calibration!r} is unknown; update studytag")
        for name, variant in self.variants.items():
            for point, thresholds in variant.thresholds.items():
                if len(thresholds) != len(self.labels) or not all(
                    0.0 <= threshold <= 1.0 for threshold in thresholds
                ):
                    raise BundleError(
                        f"variant {name!r}, operating point {point!r}: expected "
                        f"{len(self.labels)} thresholds between 0 and 1; export the bundle again"
                    )
            if variant.file not in self.files:
                raise BundleError(f"variant {name!r}: {variant.file} has no checksum")


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def hash_files(folder: Path, manifest: str = MANIFEST) -> dict[str, str]:
    """SHA-256 of every file below `folder` but the manifest, by POSIX path inside it."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != manifest)
    return {path.relative_to(folder).as_posix(): sha256(path) for path in paths}


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `studytag.json`; call it last, when every other file is in place."""
    text = json.dumps(manifest.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def load_manifest(folder: str | Path, variants: Sequence[str] | None = None) -> Manifest:
    """Read a bundle's manifest and verify its files.

    Args:
        folder: The bundle.
        variants: Verify only these variants' graphs, so that serving one does not pay for reading
            the other; None verifies all. Every other file is always verified.

    Raises:
        BundleError: not a bundle, a newer schema, or a file is missing or altered.
    """
    folder = Path(folder)
    path = folder / MANIFEST
    if not path.is_file():
        raise BundleError(
            f"{folder} is not a bundle: it has no {MANIFEST}; make one: studytag export"
        )
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise BundleError(f"{path}: not valid JSON: {error}; export the bundle again") from error
    if not isinstance(stored, dict):
        raise BundleError(f"{path}: expected a JSON object; export the bundle again")
    try:
        manifest = Manifest.from_dict(stored)
    except BundleError as error:
        raise BundleError(f"{path}: {error}") from error
    wanted = manifest.variants if variants is None else variants
    skipped = {variant.file for name, variant in manifest.variants.items() if name not in wanted}
    for name, expected in manifest.files.items():
        if name not in skipped:
            _verify(folder / name, expected)
    return manifest


def _verify(path: Path, expected: str) -> None:
    if not path.is_file():
        raise BundleError(f"{path} is missing; copy the whole bundle again or export it again")
    if sha256(path) != expected:
        raise BundleError(
            f"{path} has changed since it was exported (SHA-256 differs); "
            "copy the whole bundle again or export it again"
        )
