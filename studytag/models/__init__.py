"""The tagger that ships: a bundle inside the package."""

from __future__ import annotations

from pathlib import Path

from studytag.errors import InputError

_DEFAULT = Path(__file__).parent / "default"


def default_bundle() -> Path:
    """The folder of the bundle that `Predictor()` loads.

    Raises:
        InputError: this installation carries none.
    """
    if not (_DEFAULT / "studytag.json").is_file():
        raise InputError(
            "this installation of studytag carries no tagger; name a bundle "
            "(`studytag export` makes one)"
        )
    return _DEFAULT
