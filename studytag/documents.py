"""JSON and YAML documents that people edit or copy: read whole, refused in one line."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from studytag.errors import InputError, StudytagError, import_extra

LARGEST = 2**25
"""The most bytes of a document that is read."""


def read_json(
    path: Path, advice: str, error_type: type[StudytagError] = InputError
) -> dict[str, Any]:
    """The JSON object of a file.

    Args:
        path: The file.
        advice: What to do if it cannot be used, such as "train again".
        error_type: What to raise.

    Raises:
        StudytagError: of `error_type`; the file is missing, not JSON, or no object.
    """
    try:
        stored = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise error_type(f"{path}: cannot be read as JSON ({_reason(error)}); {advice}") from error
    if not isinstance(stored, dict):
        raise error_type(f"{path}: expected a JSON object; {advice}")
    return stored


def read_yaml(path: Path, advice: str, extra: str = "data") -> dict[str, Any]:
    """The mapping of a YAML file.

    Args:
        path: The file.
        advice: What to do if it cannot be used.
        extra: What installs PyYAML for the caller.

    Raises:
        InputError: the file is missing, not YAML, or no mapping; or one has a key twice, of which
            YAML would keep the last.
        MissingDependencyError: PyYAML is not installed.
    """
    yaml = import_extra("yaml", extra)
    try:
        text = read_text(path)
        # An alias stands for whatever its anchor holds: nine lines of them make a billion entries.
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
            raise InputError(f"{path}: has an alias (*name); write out what it stands for")
        if repeated := _repeated_key(yaml.compose(text)):
            raise InputError(f"{path}: has {repeated!r} twice in one mapping; keep one of them")
        stored = yaml.safe_load(text)
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: cannot be read as YAML ({_reason(error)}); {advice}") from error
    if not isinstance(stored, dict):
        raise InputError(f"{path}: expected a YAML mapping; {advice}")
    return stored


def read_text(path: Path) -> str:
    """The UTF-8 text of a document.

    Raises:
        OSError: it cannot be read.
        ValueError: it is larger than any document, or not UTF-8.
    """
    if path.stat().st_size > LARGEST:
        raise ValueError(f"larger than {LARGEST >> 20} MB")
    return path.read_text(encoding="utf-8")


def _repeated_key(node: Any) -> str | None:
    """The first key that stands twice in a mapping of a YAML document, given as its node."""
    inner = node.value if node is not None and isinstance(node.value, list) else []
    if inner and node.id == "mapping":
        counts = Counter((key.tag, str(key.value)) for key, _ in inner)
        for (_, key), count in counts.items():
            if count > 1:
                return key
        inner = [value for _, value in inner]
    return next(filter(None, map(_repeated_key, inner)), None)


def _reason(error: Exception) -> str:
    """An exception's message on one line."""
    return " ".join(str(getattr(error, "strerror", None) or error).split())
