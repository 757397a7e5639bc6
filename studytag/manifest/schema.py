"""What `studytag.json` must look like, entry by entry, before anything is made of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from studytag.errors import BundleError
from studytag.manifest.checks import (
    ADVICE,
    anything,
    mapping,
    name,
    number,
    one_of,
    optional,
    record,
    same_keys,
    sequence,
    share,
    text,
    whole,
    wrong,
)
from studytag.records import TextRecipe

SCHEMA_VERSION = 2

MANIFEST = "studytag.json"

OPENVINO = ".xml"
"""The suffix of OpenVINO's graphs."""

FEWEST_TOKENS, MOST_TOKENS = 3, 2**17
"""Bounds of `max_length`; the upper one is far beyond any encoder, yet bounds a text's work."""

_VARIANT_NAME = text(30, pattern="[a-z0-9_-]+")
_MOST_LABELS = 10_000
_MOST_GOLDEN = 64
_LINE = number(-1e9, 1e9)
_SCORE = number(0, 1 + 1e-9)  # sums of floats may end a little above 1

_SCORES = {
    "micro": record(dict.fromkeys(("precision", "recall", "f1"), _SCORE)),
    "macro": record(
        {
            **dict.fromkeys(("precision", "recall", "f1"), _SCORE),
            **dict.fromkeys(("average_precision", "calibration_error"), optional(_SCORE)),
        }
    ),
    "labels": mapping(
        name(),
        record(
            {
                **dict.fromkeys(("precision", "recall", "f1"), _SCORE),
                "threshold": share,
                **dict.fromkeys(("average_precision", "calibration_error"), optional(_SCORE)),
                **dict.fromkeys(("support", "known"), whole(0)),
            }
        ),
    ),
}


def _recipe(value: Any, entry: str) -> None:
    if isinstance(value, dict) and value.get("name") != TextRecipe.name:
        raise BundleError(f"text recipe {value.get('name')!r:.60} is unknown; update studytag")
    record(
        {
            "name": one_of(TextRecipe.name),
            "separator": text(100),
            "max_chars": optional(whole(1)),
        }
    )(value, entry)


def _path(value: Any, entry: str) -> None:
    name()(value, entry)
    path = PurePosixPath(value)
    outside = path.is_absolute() or not path.parts or {"..", "\\", ":"} & {*path.parts, *value}
    if outside or path.as_posix() != value:
        raise BundleError(f"{value!r} is not a path inside the folder; {ADVICE}")


_VARIANT = record(
    {
        "file": _path,
        "thresholds": mapping(name(50), sequence(share, _MOST_LABELS), least=1, most=100),
        "scores": mapping(name(50), record(_SCORES), most=100),
        "parity": mapping(name(50), number(0, 2**53), most=100),
        "adjustment": record(
            {
                "slope": mapping(name(), number(0, 1e9, above=True)),
                "offset": mapping(name(), _LINE),
            }
        ),
    },
    {"tokens": whole(FEWEST_TOKENS, MOST_TOKENS), "weight": number(0, 1e6)},
)

_DOCUMENT = record(
    {
        "schema_version": whole(SCHEMA_VERSION, SCHEMA_VERSION),
        "encoder": name(1000),
        "labels": sequence(name(), _MOST_LABELS, least=1),
        "implications": mapping(name(), sequence(name(), _MOST_LABELS)),
        "text_recipe": _recipe,
        "max_length": whole(FEWEST_TOKENS, MOST_TOKENS),
        "truncation_side": one_of("right", "left"),
        "calibration": record(
            {
                "method": one_of("platt", "none"),
                "slope": mapping(name(), _LINE),
                "offset": mapping(name(), _LINE),
            }
        ),
        "prevalence": mapping(name(), share),
        "variants": mapping(_VARIANT_NAME, _VARIANT, least=1, most=20),
        "training": mapping(name(), anything),
        "versions": mapping(name(), name()),
        "files": mapping(_path, text(64, pattern="[0-9a-f]{64}"), least=1),
    },
    {
        "golden": sequence(
            record(
                {
                    "title": text(10_000, empty=False),
                    "abstract": text(100_000),
                    "probabilities": mapping(_VARIANT_NAME, sequence(share, _MOST_LABELS), least=1),
                }
            ),
            _MOST_GOLDEN,
        )
    },
)


def weights_file(graph: str) -> str:
    """The file beside a graph for weights that it does not hold itself.

    OpenVINO keeps all of them there; a graph of ONNX does where they are more than 2 GB.
    """
    if graph.endswith(OPENVINO):
        return f"{graph.removesuffix(OPENVINO)}.bin"
    return f"{graph}_data"


def check_document(stored: Mapping[str, Any]) -> None:
    """Check the content of a manifest, without its checksum.

    Raises:
        BundleError: an entry is missing, unknown, of another type, out of its range or length, or
            does not agree with the others; names the entry.
    """
    schema = stored.get("schema_version")
    if type(schema) is not int or schema != SCHEMA_VERSION:
        raise BundleError(
            f"schema_version is {schema!r:.40}, this studytag reads {SCHEMA_VERSION}; "
            "update studytag, or train or export again"
        )
    _DOCUMENT(stored, "")
    labels = stored["labels"]
    same_keys(stored["prevalence"], labels, "prevalence")
    for part in ("slope", "offset"):
        same_keys(stored["calibration"][part], labels, f"calibration.{part}")
    if MANIFEST in stored["files"]:
        raise BundleError(f"the list of files names {MANIFEST} itself; {ADVICE}")
    for variant, entry in stored["variants"].items():
        _agree(f"variants.{variant}", entry, stored)
    _check_golden(stored)


def _check_golden(stored: Mapping[str, Any]) -> None:
    """Check the golden articles against variants and labels."""
    labels = stored["labels"]
    for index, article in enumerate(stored.get("golden", ())):
        if article["probabilities"].keys() != stored["variants"].keys():
            raise wrong(f"golden[{index}]", article["probabilities"], "one list a variant")
        for variant, probabilities in article["probabilities"].items():
            if len(probabilities) != len(labels):
                where = f"golden[{index}].probabilities.{variant}"
                raise wrong(where, probabilities, f"{len(labels)} probabilities")


def _agree(where: str, variant: Mapping[str, Any], stored: Mapping[str, Any]) -> None:
    """Check a variant against the labels and the list of files."""
    labels = stored["labels"]
    graph = variant["file"]
    needed = [graph, weights_file(graph)] if graph.endswith(OPENVINO) else [graph]
    if missing := [name for name in needed if name not in stored["files"]]:
        raise BundleError(f"{where}: {missing[0]} has no checksum; {ADVICE}")
    for point, thresholds in variant["thresholds"].items():
        if len(thresholds) != len(labels):
            raise wrong(
                f"{where}.thresholds.{point}", thresholds, f"{len(labels)} thresholds, one a label"
            )
    for point, scores in variant["scores"].items():
        same_keys(scores["labels"], labels, f"{where}.scores.{point}.labels")
    for part in ("slope", "offset"):
        same_keys(variant["adjustment"][part], labels, f"{where}.adjustment.{part}")
