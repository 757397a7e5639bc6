"""What a run is: its input, its bundle, its options. Only the same run may go on with its parts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from studytag.hashing import sha256
from studytag.inference.predictor import Predictor
from studytag.manifest import OperatingPoint
from studytag.version import __version__

_PIECE = 1 << 20
_HASH = "SHA-256 of the input"
_TIME = "modification time of the input"


def predictor_identity(
    predictor: Predictor, operating_point: OperatingPoint | None
) -> dict[str, Any]:
    """What decides a row's outcome besides the row: bundle, variant, thresholds, version."""
    point, thresholds = predictor.operating_point, predictor.thresholds
    if operating_point is not None:  # then those that the predictor was given do not count
        point = operating_point
        values = predictor.manifest.thresholds(predictor.variant, point)
        thresholds = dict(zip(predictor.labels, values, strict=True))
    return {
        "version of studytag": __version__,
        "bundle (SHA-256 of its manifest)": predictor.bundle_sha256,
        "variant": predictor.variant,
        "operating point": point,
        "thresholds": thresholds,
    }


def input_identity(source: Path, hash_all: bool = False) -> dict[str, Any]:
    """What tells a file from another: size, modification time, hash of head and tail.

    Args:
        source: The file.
        hash_all: Hash the whole file too; then the modification time does not matter.
    """
    status = source.stat()
    with source.open("rb") as stream:
        digest = hashlib.sha256(stream.read(_PIECE))
        stream.seek(max(status.st_size - _PIECE, 0))
        digest.update(stream.read(_PIECE))
    # To the microsecond, which every file system and copy that keeps times at all keeps.
    modified = datetime.fromtimestamp(status.st_mtime_ns // 1000 / 1e6, tz=timezone.utc)
    return {
        "size of the input": status.st_size,
        _TIME: modified.isoformat(),
        "SHA-256 of the input's first and last MiB": digest.hexdigest(),
        _HASH: sha256(source) if hash_all else None,
    }


def differences(stored: Mapping[str, Any], now: Mapping[str, Any], source: Path) -> list[str]:
    """What differs between a run and its earlier self, for people: `variant: int8, now fp32`.

    Args:
        stored: The identity of the earlier one.
        now: That of this one.
        source: The input: hashed if the earlier run was begun with its hash.
    """
    now = dict(now)
    changed = []
    stored_hash = stored.get(_HASH)
    if stored_hash is not None and now.get(_HASH) is None:
        now[_HASH] = sha256(source)
    for name in now:
        if name == _HASH and stored_hash is None:
            continue
        if name == _TIME and stored_hash is not None:
            continue
        if stored.get(name) != now[name]:
            changed.append(_difference(name, stored.get(name), now[name]))
    return changed


def _difference(name: str, then: Any, now: Any) -> str:
    if isinstance(then, dict) and isinstance(now, dict):
        changed = [key for key in now if then.get(key) != now[key]]
        return f"{name} of {', '.join(changed)}"
    if name.startswith(("SHA-256", "bundle")):
        return name
    return f"{name}: {then}, now {now}"
