"""`studytag.json`: what a model folder or a bundle is, in one versioned document.

Training writes one into the best model's folder (variant `pytorch`), export one into the bundle
(variants `fp32` and `int8`). It holds all that a reader must know to turn an article into
decisions, the SHA-256 of every other file, and one of itself.
"""

from studytag.manifest.content import (
    DEFAULT_OPERATING_POINT,
    FAST,
    FAST_TOKENS,
    FIXED,
    FOLLOWS,
    LEARNED_BY_CHANCE,
    OPERATING_POINTS,
    READ_TOKENS,
    RECALIBRATED,
    TUNED_ON,
    WEIGHT,
    WORDS_FROM,
    Adjustment,
    CalibrationRecord,
    Engine,
    GoldenArticle,
    Manifest,
    OperatingPoint,
    Thresholds,
    Variant,
)
from studytag.manifest.folder import (
    CARD,
    SIGNATURE,
    load_manifest,
    package_versions,
    read_manifest,
    unlisted_files,
    verify_variant,
    write_manifest,
)
from studytag.manifest.schema import (
    FEWEST_TOKENS,
    MANIFEST,
    MOST_TOKENS,
    SCHEMA_VERSION,
    weights_file,
)

TOKENIZER = "tokenizer.json"

__all__ = [
    "CARD",
    "DEFAULT_OPERATING_POINT",
    "FAST",
    "FAST_TOKENS",
    "FEWEST_TOKENS",
    "FIXED",
    "FOLLOWS",
    "LEARNED_BY_CHANCE",
    "MANIFEST",
    "MOST_TOKENS",
    "OPERATING_POINTS",
    "READ_TOKENS",
    "RECALIBRATED",
    "SCHEMA_VERSION",
    "SIGNATURE",
    "TOKENIZER",
    "TUNED_ON",
    "WORDS_FROM",
    "Adjustment",
    "CalibrationRecord",
    "Engine",
    "GoldenArticle",
    "Manifest",
    "OperatingPoint",
    "Thresholds",
    "WEIGHT",
    "Variant",
    "load_manifest",
    "package_versions",
    "read_manifest",
    "unlisted_files",
    "verify_variant",
    "weights_file",
    "write_manifest",
]
