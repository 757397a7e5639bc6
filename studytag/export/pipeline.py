"""From a trained model to a bundle: export, quantise, measure, decide, write.

Each variant is measured through the `Predictor` that will serve it, and its thresholds are tuned on
its own outputs, since quantisation shifts probabilities.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from studytag.dataset import LabelledTable, load_evaluable
from studytag.errors import InputError, StudytagError
from studytag.evaluation.calibration import calibrate
from studytag.evaluation.metrics import score_points
from studytag.evaluation.prevalence import label_prevalence, logit
from studytag.evaluation.thresholds import tune_thresholds
from studytag.export.config import repeat_thresholds
from studytag.export.excerpt import add_excerpt
from studytag.export.golden import seal_bundle
from studytag.export.graph import export_graph
from studytag.export.ngrams import Blend, add_ngrams, best_factor
from studytag.export.openvino import export_openvino
from studytag.export.parity import shape_difference
from studytag.export.precedent import (
    adjusted_like,
    blend_of,
    calibrated_like,
    decided_like,
    load_precedent,
)
from studytag.export.quantisation import quantise
from studytag.export.recalibration import adjusted, adjustment_of, raw_probabilities
from studytag.files import atomic_folder
from studytag.hashing import hash_files
from studytag.inference.predictor import Predictor
from studytag.inference.session import open_session
from studytag.labels import LabelSet
from studytag.manifest import (
    CARD,
    DEFAULT_OPERATING_POINT,
    FAST,
    FAST_TOKENS,
    FEWEST_TOKENS,
    MANIFEST,
    MOST_TOKENS,
    TOKENIZER,
    Manifest,
    Variant,
    package_versions,
    refuse_foreign_folder,
    weights_file,
    write_manifest,
)
from studytag.records import Row
from studytag.training.model_folder import TrainedModel, load_model_folder, torch_probabilities
from studytag.version import __version__
from studytag.words.ngrams import Ngrams, rows_to_learn_from

logger = logging.getLogger(__name__)

GRAPHS = {
    "fp32": "onnx/model.onnx",
    "int8": "onnx/model_quantized.onnx",
    FAST: "onnx/model_quantized.onnx",
    "int8-openvino": "openvino/openvino_model.xml",
}
"""Variant to its file, under the names that optimum and transformers.js look for."""
DEFAULT_VARIANTS = ("fp32", "int8")
TOKENIZER_FILES = (TOKENIZER, "tokenizer_config.json", "special_tokens_map.json")
PARITY_ROWS = 256
"""Validation rows on which graphs are compared with PyTorch, spread evenly."""

_PACKAGES = (
    *("torch", "transformers", "optimum-onnx", "onnx"),
    *("onnxruntime", "tokenizers", "numpy"),
)


def export_bundle(
    model_dir: str | Path,
    output: str | Path,
    validation: str | Path,
    *,
    ngrams: str | Path | None = None,
    like: str | Path | None = None,
    fast_tokens: int = FAST_TOKENS,
    variants: Sequence[str] = DEFAULT_VARIANTS,
    max_f1_drop: float = 0.005,
    tolerance: float = 1e-4,
    card: str | Path | None = None,
) -> Manifest:
    """Make a bundle; it appears when it is complete, or not at all.

    Args:
        model_dir: A best model folder.
        output: The bundle, replaced if it is there.
        validation: The labelled table to tune thresholds and measure on.
        ngrams: The labelled table that the model was trained on, to learn a linear model of words
            from, which is added to every variant; see ngrams.py. None takes the words of the model
            folder, if it has any.
        like: A bundle of the same recipe whose model never learned from the validation articles,
            for a model that did: calibration, the words' share, thresholds, scores and prevalence
            are taken from it, and the validation table only checks what the graphs lose.
        fast_tokens: What the transformer reads of a text in the variant `fast`, where the words,
            which are those of the whole text there too, say most; see excerpt.py.
        variants: What the bundle keeps; fp32 and int8 are always made and measured, and fp32 must
            pass its gates.
        max_f1_drop: An int8 variant is left out if its micro-F1 is lower than float32's by
            more than this.
        tolerance: Largest difference from PyTorch that a float32 probability may have.
        card: A model card, which becomes the bundle's `README.md`.

    Raises:
        InputError: a table, the card or `fast_tokens` is unusable, `fast` is asked for without
            words, `like` is of another recipe, or `output` holds something else than a bundle.
        BundleError: the model folder or `like` is incomplete.
        MissingDependencyError: a package that a variant needs is not installed.
        StudytagError: the float32 graph differs from PyTorch by more than `tolerance`.
    """
    output = Path(output)
    refuse_foreign_folder(output)
    _check_options(fast_tokens, card)
    trained = load_model_folder(Path(model_dir))
    table = load_evaluable(validation, trained.manifest.labels)
    words = trained.words if ngrams is None else _learn_words(trained, ngrams)
    tokens = _fast_tokens(variants, fast_tokens, words)
    precedent = None
    if like is not None:
        precedent = load_precedent(Path(like), trained, words is not None, variants, tokens)
        trained = calibrated_like(trained, precedent)
    with atomic_folder(output) as folder:
        _write_files(trained, folder)
        if words is not None:
            blend = blend_of(precedent) if precedent else _fit_blend(trained, words, table)
            trained = _with_ngrams(trained, words, blend)
            _add_words(trained, words, folder, excerpt=tokens is not None)
        if "int8-openvino" in variants:
            texts = _texts(trained.manifest, table.rows)
            export_openvino(trained, texts, folder / GRAPHS["int8-openvino"])
        _check_shapes(trained, folder / GRAPHS["fp32"], tolerance)
        manifest = _draft(trained, folder, tokens)
        if precedent is not None:
            manifest = adjusted_like(manifest, precedent)
        measured = _measure_all(trained, table, folder, manifest, calibrates=precedent is None)
        _check_parity(measured["fp32"], tolerance)
        kept = _without_losses(measured, folder, max_f1_drop)
        kept = _only(kept, variants, folder)
        if not kept:
            raise StudytagError(
                f"none of the variants {', '.join(variants)} is left; nothing was written"
            )
        prevalence = label_prevalence(manifest.labels, table.truth, table.known)
        manifest = replace(manifest, variants=kept, prevalence=prevalence)
        if precedent is not None:
            manifest = decided_like(manifest, precedent)
        repeat_thresholds(folder, manifest)
        if card is not None:
            shutil.copyfile(card, folder / CARD)
        manifest = seal_bundle(folder, manifest)
    logger.info("wrote %s with %s", output, " and ".join(kept))
    return manifest


def _check_options(fast_tokens: int, card: str | Path | None) -> None:
    if not FEWEST_TOKENS <= fast_tokens <= MOST_TOKENS:
        raise InputError(
            f"option fast_tokens must be from {FEWEST_TOKENS} to {MOST_TOKENS}, not {fast_tokens}"
        )
    if card is not None and not Path(card).is_file():
        raise InputError(f"{card}: no such file; name a model card in Markdown")


def _fast_tokens(variants: Sequence[str], fast_tokens: int, words: Ngrams | None) -> int | None:
    """What the transformer reads in the variant `fast`; None if it is not asked for."""
    if FAST not in variants:
        return None
    if words is None:
        raise InputError(
            "the variant fast reads where words say most, and this model was trained without them: "
            "name the table that it was trained on with --ngrams"
        )
    return fast_tokens


def _write_files(trained: TrainedModel, folder: Path) -> None:
    """Write everything but the manifest."""
    (folder / "onnx").mkdir()
    export_graph(trained.model, folder / GRAPHS["fp32"])
    quantise(folder / GRAPHS["fp32"], folder / GRAPHS["int8"])
    trained.model.config.save_pretrained(folder)
    with TemporaryDirectory(dir=folder) as everything:
        trained.tokenizer.save_pretrained(everything)
        for name in TOKENIZER_FILES:
            if Path(everything, name).is_file():
                Path(everything, name).rename(folder / name)


def _learn_words(trained: TrainedModel, source: str | Path) -> Ngrams:
    """A linear model of the words that a labelled table's texts have for the transformer."""
    table = load_evaluable(source, trained.manifest.labels)
    rows = rows_to_learn_from(table.known)
    logger.info("learning words from %d articles", len(rows))
    return Ngrams.fit(
        _token_ids(trained, _texts(trained.manifest, (table.rows[row] for row in rows))),
        len(trained.tokenizer),
        table.truth[rows],
        table.known[rows],
    )


def _with_ngrams(trained: TrainedModel, words: Ngrams, blend: Blend) -> TrainedModel:
    """The model with what words tell added to it."""
    training = {**trained.manifest.training, "ngrams": blend.to_dict()}
    manifest = replace(trained.manifest, training=training)
    return replace(trained, model=blend(trained.model, words), manifest=manifest)


def _add_words(trained: TrainedModel, words: Ngrams, folder: Path, *, excerpt: bool) -> None:
    """Add the words to the graphs; `excerpt`: and what reads where they say most."""
    if excerpt:
        add_excerpt(folder / GRAPHS[FAST], words)
    for variant in ("fp32", "int8"):
        add_ngrams(folder / GRAPHS[variant], trained.model)


def _fit_blend(trained: TrainedModel, words: Ngrams, table: LabelledTable) -> Blend:
    """How the words are weighed, by the validation `table`."""
    # What labels imply is left out: it is applied to the sum.
    plain = replace(trained.manifest, labels=LabelSet(trained.manifest.labels.names))
    texts = _texts(trained.manifest, table.rows)
    logits = logit(torch_probabilities(replace(trained, manifest=plain), texts))
    said_by_words = words.logits(_token_ids(trained, texts))
    return Blend.fit(logits, said_by_words, table.truth, table.known)


def _token_ids(trained: TrainedModel, texts: Iterable[str]) -> Iterator[NDArray[np.int64]]:
    for text in texts:
        reads = {"truncation": True, "max_length": trained.manifest.max_length}
        yield np.array(trained.tokenizer(text, **reads)["input_ids"])


def _texts(manifest: Manifest, rows: Iterable[Row]) -> list[str]:
    return [manifest.text_recipe.compose_record(row) for row in rows]


def _draft(trained: TrainedModel, folder: Path, fast_tokens: int | None) -> Manifest:
    """A manifest with thresholds of 0.5, so that the predictor can open the bundle."""
    untuned: dict[str, list[float]] = {
        DEFAULT_OPERATING_POINT: [0.5] * len(trained.manifest.labels)
    }
    manifest = replace(
        trained.manifest,
        variants={
            name: Variant(file, untuned, tokens=fast_tokens if name == FAST else None)
            for name, file in GRAPHS.items()
            if (folder / file).is_file() and (name != FAST or fast_tokens is not None)
        },
        files=hash_files(folder, {MANIFEST}),
        versions=package_versions(_PACKAGES) | {"studytag": __version__},
    )
    write_manifest(folder, manifest)
    return manifest


def _measure_all(
    trained: TrainedModel,
    table: LabelledTable,
    folder: Path,
    manifest: Manifest,
    *,
    calibrates: bool,
) -> dict[str, Variant]:
    """Each variant with thresholds, scores and parity, of one pass over the validation rows.

    `calibrates`: the fast one is calibrated on them.
    """
    count = min(PARITY_ROWS, len(table))
    sample = np.linspace(0, len(table) - 1, count).astype(int)
    expected = torch_probabilities(
        trained, _texts(manifest, (table.rows[index] for index in sample))
    )
    measured = {}
    for name, variant in manifest.variants.items():
        logger.info("%s: %d validation rows", name, len(table))
        if name == FAST and calibrates:
            variant, probabilities = _calibrated(folder, manifest, table, trained.model.share)
        else:
            with Predictor(folder, variant=name) as predictor:  # type: ignore[arg-type]
                probabilities = predictor.predict_proba(table.rows)
        if name != FAST:  # which reads less, so it is not to be the same as PyTorch
            difference = np.abs(probabilities[sample] - expected)
            most, average = float(difference.max()), float(difference.mean())
            logger.info("%s: at most %.1e, on average %.1e from PyTorch", name, most, average)
            parity = {"max_abs_difference": most, "mean_abs_difference": average, "rows": count}
            variant = replace(variant, parity=parity)
        measured[name] = _tuned(variant, manifest, table, probabilities)
        logger.info("%s: micro-F1 %.4f", name, _micro_f1(measured[name]))
    return measured


def _calibrated(
    folder: Path, manifest: Manifest, table: LabelledTable, share: float
) -> tuple[Variant, NDArray[np.float32]]:
    """The fast variant, calibrated for what it reads, and its probabilities.

    Its transformer is not as sure as the one that reads everything, so the words, which have that
    `share` of the sum, get a share of its own.
    """
    labels, fast = manifest.labels, manifest.variants[FAST]
    texts = _texts(manifest, table.rows)

    def raw_logits(weight: float | None) -> NDArray[np.float64]:
        only = {FAST: replace(fast, weight=weight)}
        return logit(raw_probabilities(folder, replace(manifest, variants=only), FAST, texts))

    logits = raw_logits(None)
    if share:
        words = raw_logits(0.0)
        transformer = logits - words
        weight = best_factor(share, transformer, words, table.truth, table.known)
        fast, logits = replace(fast, weight=weight), weight * transformer + words
    line = calibrate(table.truth, table.known, logits)
    adjustment = adjustment_of(labels, line.slope, line.offset)
    variant = replace(fast, adjustment=adjustment)
    return variant, labels.raise_implied(adjusted(logits, line.slope, line.offset))


def _only(
    measured: Mapping[str, Variant], names: Sequence[str], folder: Path
) -> dict[str, Variant]:
    """The variants of these names; graphs that no other needs are deleted."""
    kept = {name: variant for name, variant in measured.items() if name in names}
    for graph in {each.file for each in measured.values()} - {each.file for each in kept.values()}:
        (folder / graph).unlink()
        (folder / weights_file(graph)).unlink(missing_ok=True)
    return kept


def _tuned(
    variant: Variant, manifest: Manifest, table: LabelledTable, probabilities: NDArray[np.float32]
) -> Variant:
    thresholds = tune_thresholds(table.truth, table.known, probabilities)
    scores = score_points(manifest.labels, table.truth, table.known, probabilities, thresholds)
    return replace(variant, thresholds=thresholds, scores=scores)


def _micro_f1(variant: Variant) -> float:
    return variant.scores[DEFAULT_OPERATING_POINT].micro.f1


def _check_shapes(trained: TrainedModel, graph: Path, tolerance: float) -> None:
    difference = shape_difference(trained, open_session(graph))
    if not difference <= tolerance:
        raise StudytagError(
            f"the ONNX graph differs from PyTorch by {difference:.1e} on padded batches, more than "
            f"{tolerance:.1e}; nothing was written; try another version of torch or optimum"
        )


def _check_parity(variant: Variant, tolerance: float) -> None:
    difference = variant.parity["max_abs_difference"]
    if not difference <= tolerance:
        raise StudytagError(
            f"the ONNX graph's probabilities differ from PyTorch's by up to {difference:.1e}, more "
            f"than {tolerance:.1e}; nothing was written; raise --tolerance if that is acceptable"
        )


def _without_losses(
    measured: dict[str, Variant], folder: Path, max_f1_drop: float
) -> dict[str, Variant]:
    """The variants that lose at most `max_f1_drop`; the graphs of the others are deleted.

    The fast one may lose more, but not without the graph that it shares with int8.
    """
    best = _micro_f1(measured["fp32"])
    left_out = set()
    for name, variant in measured.items():
        drop = best - _micro_f1(variant)
        if name not in ("fp32", FAST) and not drop <= max_f1_drop:
            logger.warning(
                "%s left out of the bundle: its micro-F1 is %.4f below fp32's, more than %.4f; "
                "raise --max-f1-drop to keep it",
                *(name, drop, max_f1_drop),
            )
            left_out.add(variant.file)
    names = [name for name, variant in measured.items() if variant.file not in left_out]
    return _only(measured, names, folder)
