"""Manifests as a faulty or hostile program would write them: altered, with a checksum that fits.

An input is either a JSON document, or lines that each alter one entry of a valid manifest: two
bytes that choose the entry, one that chooses what happens to it, and the JSON of a new value.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from studytag.errors import StudytagError
from studytag.manifest import MANIFEST, Manifest, read_manifest, write_manifest
from tests.support import full_manifest

VALID: dict[str, Any] = json.loads(json.dumps(full_manifest().to_dict()))
"""What is altered."""


def document(data: bytes) -> Any:
    """The document that an input stands for.

    Raises:
        ValueError: it is neither lines of alterations nor JSON.
        RecursionError: it is nested without end.
    """
    if data[:1] in (b"{", b"["):
        return json.loads(data)
    altered = json.loads(json.dumps(VALID))
    for line in data.split(b"\n"):
        if len(line) >= 3:
            _alter(altered, line)
    return altered


def check(folder: Path, data: bytes) -> None:
    """Read a manifest; one that is taken must work, and be written and read as itself."""
    try:
        stored = document(data)
        content = {name: value for name, value in dict(stored).items() if name != "checksum"}
        canonical = _json(content, sort_keys=True, separators=(",", ":"))
        checksum = hashlib.sha256(canonical).hexdigest()
        whole = _json(content | {"checksum": checksum}, indent=2) + b"\n"
    except (ValueError, TypeError, RecursionError):
        whole = data
    (folder / MANIFEST).write_bytes(whole)
    try:
        manifest = read_manifest(folder)
    except StudytagError as error:
        message = str(error)
    else:
        _use(folder, manifest)
        message = ""
    assert message.isprintable()


def _use(folder: Path, manifest: Manifest) -> None:
    for name, variant in manifest.variants.items():
        slope, offset = variant.adjustment.lines(manifest.labels)
        probabilities = 1 / (1 + np.exp(-np.clip(slope * 0.5 + offset, -50, 50)))
        for point in variant.thresholds:
            manifest.labels.decide(probabilities[None], manifest.thresholds(name, point))
        assert manifest.weights(name)
    write_manifest(folder, manifest)
    assert read_manifest(folder) == manifest


def _json(value: Any, **options: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, **options).encode("utf-8", "surrogatepass")


def _alter(whole: Any, line: bytes) -> None:
    """Alter one entry in place; a value that is no JSON is taken as a text."""
    places = list(_places(whole))
    if not places:
        return
    holder, key = places[int.from_bytes(line[:2], "big") % len(places)]
    try:
        value = json.loads(line[3:] or b"null")
    except (ValueError, RecursionError):
        value = line[3:].decode("utf-8", "surrogateescape")
    action = line[2] % 8
    if action == 0:
        del holder[key]
    elif action == 1 and isinstance(holder, dict):
        holder[value if isinstance(value, str) else json.dumps(value)] = holder.pop(key)
    elif action == 1:
        holder.insert(key, value)
    else:
        holder[key] = value


def _places(value: Any) -> Any:
    """Every entry: what holds it, and its key or index there."""
    keys = list(value) if isinstance(value, dict) else range(len(value))
    for key in keys:
        yield value, key
        if isinstance(value[key], dict | list):
            yield from _places(value[key])
