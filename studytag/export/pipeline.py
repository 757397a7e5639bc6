"""From a trained model to a bundle: export, quantise, measure, decide, write.

Each variant is measured through the `Predictor` that will serve it, and its thresholds are tuned on
its own outputs, since quantisation shifts probabilities, or taken from a bundle that it follows.
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

from studytag.dataset import LabelledTable, load_evaluable, table_hash
from studytag.errors import InputError, StudytagError
from studytag.evaluation.prevalence import label_prevalence, logit
from studytag.export.config import repeat_thresholds
from studytag.export.excerpt import add_excerpt
from studytag.export.gates import (
    check_decisions,
    check_parity,
    check_shapes,
    only,
    without_losses,
)
from studytag.export.golden import seal_bundle
from studytag.export.graph import export_graph
from studytag.export.measuring import measure_all
from studytag.export.ngrams import BLEND, Blend, add_ngrams
from studytag.export.openvino import export_openvino
from studytag.export.place import refuse_place
from studytag.export.precedent import (
    calibrated_like,
    decided_like,
    load_precedent,
)
from studytag.export.quantisation import quantise
from studytag.files import atomic_folder
from studytag.hashing import hash_files
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
    TUNED_ON,
    WORDS_FROM,
    Manifest,
    Variant,
    package_versions,
    write_manifest,
)
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
    fast_tokens: int | None = None,
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
            are taken from it, and the validation articles only tell whether these fit.
        fast_tokens: What the transformer reads of a text in the variant `fast`, where the words,
            which are those of the whole text there too, say most; see excerpt.py. None is as many
            as `like` has, or `FAST_TOKENS`.
        variants: What the bundle keeps; fp32 and int8 are always made and measured, and fp32 must
            pass its gates.
        max_f1_drop: An int8 variant is left out if its micro-F1 is lower than float32's by
            more than this. With `like`, nothing is written if that of a variant is lower than
            there by more.
        tolerance: Largest difference from PyTorch that a float32 probability may have.
        card: A model card, which becomes the bundle's `README.md`.

    Raises:
        InputError: a table, the card or `fast_tokens` is unusable, `fast` is asked for without
            words, `like` is of another recipe, or `output` holds anything but an earlier bundle.
        BundleError: the model folder or `like` is incomplete.
        MissingDependencyError: a package that a variant needs is not installed.
        StudytagError: the float32 graph differs from PyTorch by more than `tolerance`, or the
            thresholds of `like` do not fit.
    """
    output = Path(output)
    refuse_place(output, (model_dir, validation, ngrams, like, card))
    _check_options(fast_tokens, card)
    trained = load_model_folder(Path(model_dir))
    table = load_evaluable(validation, trained.manifest.labels)
    with_words = ngrams is not None or trained.words is not None
    precedent = None
    followed: Mapping[str, Variant] = {}
    if like is not None:
        precedent = load_precedent(Path(like), trained, with_words, variants, Path(validation))
        followed = precedent.manifest.variants
    tokens = _fast_tokens(variants, fast_tokens, with_words, followed)
    words = trained.words if ngrams is None else _learn_words(trained, ngrams)
    if precedent is not None:
        trained = calibrated_like(trained, precedent.manifest)
    with atomic_folder(output) as folder:
        _write_files(trained, folder)
        if words is not None:
            blend = precedent.blend if precedent else None
            blend = blend or _fit_blend(trained, words, table)
            trained = _with_ngrams(trained, words, blend, ngrams)
            _add_words(trained, words, folder, excerpt=tokens is not None)
        if "int8-openvino" in variants:
            texts = trained.manifest.text_recipe.compose_records(table.rows)
            export_openvino(trained, texts, folder / GRAPHS["int8-openvino"])
        check_shapes(trained, folder / GRAPHS["fp32"], tolerance)
        manifest = _draft(trained, folder, Path(validation), tokens, followed)
        measured = measure_all(trained, table, folder, manifest, followed)
        check_parity(measured["fp32"], tolerance)
        kept = without_losses(measured, folder, max_f1_drop)
        kept = only(kept, variants, folder)
        if not kept:
            raise StudytagError(
                f"none of the variants {', '.join(variants)} is left; nothing was written"
            )
        manifest = replace(manifest, variants=kept)
        if precedent is not None:
            check_decisions(kept, followed, max_f1_drop)
            manifest = decided_like(manifest, precedent)
        else:
            prevalence = label_prevalence(manifest.labels, table.truth, table.known)
            manifest = replace(manifest, prevalence=prevalence)
        if manifest.measured_on_learned:
            logger.warning(
                "%s: the model learned from these articles, or its words did: thresholds, "
                "calibration and scores that are fitted to them are too good; name others with "
                "--validation, or export with --like a bundle whose model did not",
                validation,
            )
        repeat_thresholds(folder, manifest)
        if card is not None:
            shutil.copyfile(card, folder / CARD)
        manifest = seal_bundle(folder, manifest)
    logger.info("wrote %s with %s", output, " and ".join(kept))
    return manifest


def _check_options(fast_tokens: int | None, card: str | Path | None) -> None:
    if fast_tokens is not None and not FEWEST_TOKENS <= fast_tokens <= MOST_TOKENS:
        raise InputError(
            f"option fast_tokens must be from {FEWEST_TOKENS} to {MOST_TOKENS}, not {fast_tokens}"
        )
    if card is not None and not Path(card).is_file():
        raise InputError(f"{card}: no such file; name a model card in Markdown")


def _fast_tokens(
    variants: Sequence[str],
    fast_tokens: int | None,
    with_words: bool,
    followed: Mapping[str, Variant],
) -> int | None:
    """What the transformer reads in the variant `fast`; None if it is not asked for."""
    if FAST not in variants:
        if fast_tokens is not None:
            raise InputError(
                f"option fast_tokens ({fast_tokens}) is for the variant fast, which is not asked "
                "for; add it to --variants, or leave the option out"
            )
        return None
    if not with_words:
        raise InputError(
            "the variant fast reads where words say most, and this model was trained without them: "
            "name the table that it was trained on with --ngrams"
        )
    tokens = followed[FAST].tokens if followed else FAST_TOKENS
    if followed and fast_tokens not in (None, tokens):
        raise InputError(
            f"option fast_tokens must be {tokens} as in the bundle that is followed, not "
            f"{fast_tokens}; leave it out"
        )
    return fast_tokens or tokens


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
    texts = trained.manifest.text_recipe.compose_records(table.rows[row] for row in rows)
    return Ngrams.fit(
        _token_ids(trained, texts),
        len(trained.tokenizer),
        table.truth[rows],
        table.known[rows],
    )


def _with_ngrams(
    trained: TrainedModel, words: Ngrams, blend: Blend, source: str | Path | None
) -> TrainedModel:
    """The model with what words tell added to it; of the table `source`, or of training."""
    training = {**trained.manifest.training, BLEND: blend.to_dict()}
    if source is not None:
        training[WORDS_FROM] = table_hash(Path(source))
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
    texts = trained.manifest.text_recipe.compose_records(table.rows)
    logits = logit(torch_probabilities(replace(trained, manifest=plain), texts))
    said_by_words = words.logits(_token_ids(trained, texts))
    return Blend.fit(logits, said_by_words, table.truth, table.known)


def _token_ids(trained: TrainedModel, texts: Iterable[str]) -> Iterator[NDArray[np.int64]]:
    for text in texts:
        reads = {"truncation": True, "max_length": trained.manifest.max_length}
        yield np.array(trained.tokenizer(text, **reads)["input_ids"])


def _draft(
    trained: TrainedModel,
    folder: Path,
    validation: Path,
    fast_tokens: int | None,
    followed: Mapping[str, Variant],
) -> Manifest:
    """A manifest with thresholds of 0.5, so that the predictor can open the bundle."""
    untuned: dict[str, list[float]] = {
        DEFAULT_OPERATING_POINT: [0.5] * len(trained.manifest.labels)
    }
    variants = {
        name: Variant(file, untuned)
        for name, file in GRAPHS.items()
        if name != FAST and (folder / file).is_file()
    }
    if fast_tokens is not None:
        fast = replace(variants["int8"], tokens=fast_tokens)
        if followed:
            other = followed[FAST]
            fast = replace(fast, adjustment=other.adjustment, weight=other.weight)
        variants[FAST] = fast
    manifest = replace(
        trained.manifest,
        variants=variants,
        training={**trained.manifest.training, TUNED_ON: table_hash(validation)},
        files=hash_files(folder, {MANIFEST}),
        versions=package_versions(_PACKAGES) | {"studytag": __version__},
    )
    write_manifest(folder, manifest)
    return manifest
