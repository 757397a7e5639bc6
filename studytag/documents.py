"""JSON and YAML documents that people edit or copy: read whole, refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from studytag.errors import InputError, StudytagError, import_extra


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
        stored = json.loads(path.read_text(encoding="utf-8"))
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
        InputError: the file is missing, not YAML, or no mapping.
        MissingDependencyError: PyYAML is not installed.
    """
    yaml = import_extra("yaml", extra)
    try:
        stored = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as YAML ({_reason(error)}); {advice}") from error
    if not isinstance(stored, dict):
        raise InputError(f"{path}: expected a YAML mapping; {advice}")
    return stored


def _reason(error: Exception) -> str:
    """An exception's message on one line."""
    return " ".join(str(getattr(error, "strerror", None) or error).split())
