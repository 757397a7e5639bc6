"""studytag: study-design tags for biomedical articles, from title and abstract."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from studytag.inference.predictor import Prediction, Predictor

__all__ = ["Prediction", "Predictor", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import the predictor only when it is asked for: building data needs no onnxruntime."""
    if name in ("Prediction", "Predictor"):
        from studytag.inference import predictor

        return getattr(predictor, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
