"""A manifest in its folder: written last, and read with every file checked against it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from studytag.documents import read_json
from studytag.errors import BundleError
from studytag.hashing import sha256
from studytag.manifest.checks import ADVICE
from studytag.manifest.content import Manifest
from studytag.manifest.schema import MANIFEST, SCHEMA_VERSION, check_document

SIGNATURE = "studytag.json.sig"
"""A signature of the manifest, beside it; it cannot be listed in what it signs."""

CARD = "README.md"
"""The model card. Nothing reads it, and people edit it, on the Hub too: it is not listed."""

_LARGEST = 2**25


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `studytag.json`; call it last, when every other file is in place.

    Raises:
        BundleError: it would be refused when it is read.
    """
    content = manifest.to_dict()
    check_document(json.loads(json.dumps(content)))
    text = _rendered(content | {"checksum": _checksum(content)})
    (folder / MANIFEST).write_text(text, encoding="utf-8", newline="\n")


def load_manifest(folder: str | Path, variants: Sequence[str] | None = None) -> Manifest:
    """Read the manifest of a model folder or bundle, and verify the folder's files.

    Args:
        folder: What training or export made.
        variants: Verify only these variants' files, so that serving one does not pay for reading
            the other; None verifies all. Every other file is always verified.

    Raises:
        BundleError: no manifest, a newer schema, a file (the manifest too) is missing or altered,
            leads out of the folder, or is not listed.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    for name in unlisted_files(folder, manifest):
        raise BundleError(
            f"{folder / name} is not listed in {MANIFEST}; remove it, or copy the whole folder "
            "again"
        )
    weights = {name for variant in manifest.variants for name in manifest.weights(variant)}
    for name in manifest.files.keys() - weights:
        _verify(folder, name, manifest.files[name])
    for variant in manifest.variants if variants is None else variants:
        verify_variant(folder, manifest, variant)
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest alone; its files are not looked at.

    Raises:
        BundleError: there is none, it is of a newer schema, altered or malformed.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise BundleError(
            f"{folder} is neither a model folder nor a bundle: it has no {MANIFEST}; "
            "train one (studytag train) or export one (studytag export)"
        )
    _refuse_outside(folder, MANIFEST)
    if path.stat().st_size > _LARGEST:
        raise BundleError(f"{path}: larger than {_LARGEST >> 20} MB; {ADVICE}")
    stored = read_json(path, ADVICE, BundleError)
    schema = stored.get("schema_version")
    if type(schema) is int and schema == SCHEMA_VERSION:
        _refuse_altered(path, stored)
    stored.pop("checksum", None)
    try:
        return Manifest.from_dict(stored)
    except BundleError as error:
        raise BundleError(f"{path}: {error}") from error


def verify_variant(folder: Path, manifest: Manifest, variant: str) -> None:
    """Check the weights of one variant against their checksums.

    Raises:
        BundleError: a file is missing, altered, or leads out of the folder.
    """
    for name in manifest.weights(variant):
        _verify(folder, name, manifest.files[name])


def unlisted_files(folder: Path, manifest: Manifest) -> Iterator[str]:
    """The files of a folder that its manifest does not list, by POSIX path.

    Not counted are the manifest, its signature, the model card, and hidden files, which version
    control and file managers leave; nothing reads any of these but the first two.
    """
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        links = [name for name in folders if Path(root, name).is_symlink()]
        for name in sorted([*names, *links]):
            path = Path(root, name).relative_to(folder).as_posix()
            if path not in (MANIFEST, SIGNATURE, CARD, *manifest.files) and name[0] != ".":
                yield path


def package_versions(packages: Sequence[str]) -> dict[str, str]:
    """The installed versions of `packages`; those that are not installed are left out."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _refuse_altered(path: Path, stored: Mapping[str, Any]) -> None:
    """Refuse a manifest that is not, byte for byte, what `write_manifest` wrote."""
    content = {name: value for name, value in stored.items() if name != "checksum"}
    try:
        whole = stored.get("checksum") == _checksum(content)
        # 1E-5 for 1e-5 says the same, and is no less a flipped bit.
        same = _rendered(stored).encode() == path.read_bytes()
    except (ValueError, RecursionError):  # NaN, surrogates, nesting without end
        whole = same = False
    if not (whole and same):
        raise BundleError(f"{path} has been altered (its checksum differs); {ADVICE}")


def _rendered(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _checksum(content: Mapping[str, Any]) -> str:
    """SHA-256 of the content as canonical JSON: sorted keys, no white space."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _verify(folder: Path, name: str, expected: str) -> None:
    path = folder / name
    if not path.is_file():
        raise BundleError(f"{path} is missing; {ADVICE}")
    _refuse_outside(folder, name)
    try:
        found = sha256(path)
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}); {ADVICE}") from error
    if found != expected:
        raise BundleError(f"{path} has changed since it was written (SHA-256 differs); {ADVICE}")


def _refuse_outside(folder: Path, name: str) -> None:
    """Refuse a link that leads out of the folder; the Hub's cache links to its own blobs."""
    home = Path(os.path.realpath(folder))
    place = Path(os.path.realpath(folder / name))
    blobs = home.parents[1] / "blobs" if home.parent.name == "snapshots" else home
    if not (place.is_relative_to(home) or place.is_relative_to(blobs)):
        raise BundleError(
            f"{folder / name} is a link that leads out of the folder; copy the file itself there"
        )
