"""studytag: study-design tags for biomedical articles, from title and abstract."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from studytag.version import __version__

if TYPE_CHECKING:
    from studytag.errors import BundleError, InputError, MissingDependencyError, StudytagError
    from studytag.files import WriteOptions
    from studytag.inference.files import predict_file
    from studytag.inference.predictor import Prediction, Predictor
    from studytag.inference.run import Options
    from studytag.manifest import load_manifest

__all__ = [
    "BundleError",
    "InputError",
    "MissingDependencyError",
    "Options",
    "Prediction",
    "Predictor",
    "StudytagError",
    "WriteOptions",
    "__version__",
    "load_manifest",
    "predict_file",
]


_HOMES = {
    "Prediction": "studytag.inference.predictor",
    "Predictor": "studytag.inference.predictor",
    "predict_file": "studytag.inference.files",
    "Options": "studytag.inference.run",
    "WriteOptions": "studytag.files",
    "load_manifest": "studytag.manifest",
    **dict.fromkeys(
        ("BundleError", "InputError", "MissingDependencyError", "StudytagError"), "studytag.errors"
    ),
}


def __getattr__(name: str) -> Any:
    """Import a public name only when it is asked for: building data needs no onnxruntime."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
