"""The predictor: records in, labels with probabilities out, one document on each core.

    predictor = Predictor.from_pretrained("artifacts/bundle")
    predictor.predict({"title": "...", "abstract": "..."})

A document is run alone and unpadded, so its result never depends on its neighbours, and no time
goes into padding.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from numbers import Integral, Real
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from studytag.errors import InputError
from studytag.hardware import available_cores, has_fast_int8
from studytag.hashing import sha256
from studytag.inference.benchmark import kept_rates, runnable_variants
from studytag.inference.inputs import Records, iterate_records
from studytag.inference.model import Model, Reading
from studytag.inference.session import choose_variant
from studytag.inference.sources import find_bundle, local_folder, package_bundle
from studytag.inference.workers import Workers, reading_of
from studytag.labels import LabelSet
from studytag.manifest import (
    DEFAULT_OPERATING_POINT,
    FAST,
    MANIFEST,
    Manifest,
    OperatingPoint,
    load_manifest,
    verify_variant,
)
from studytag.manifest.signature import verify_signature

logger = logging.getLogger(__name__)

VariantName = Literal["auto", "int8", "fp32", "fast", "int8-openvino"]


@dataclass(frozen=True, slots=True)
class Prediction:
    """The tags of one record.

    Attributes:
        labels: Names whose probability reaches their threshold, and what those imply, in label
            order.
        probabilities: Every label's probability.
        tokens: Of the whole text, special tokens included; what lies behind the bundle's
            `max_length` was not read. None where an earlier run made the prediction.
    """

    labels: list[str]
    probabilities: dict[str, float]
    tokens: int | None = field(default=None, compare=False, repr=False)


Outcome = Prediction | InputError


class Predictor:
    """A bundle's variant, loaded and ready. Safe to use from several threads; close when done.

    It can be pickled, so that joblib, multiprocessing and cluster engines can send it to workers:
    what travels is the bundle's path and the options, and the worker loads it itself.
    """

    __slots__ = (
        *("_bundle_sha256", "_manifest", "_model", "_operating_point", "_options", "_path"),
        *("_resolved", "_threads_per_worker", "_thresholds", "_variant", "_workers"),
        "__weakref__",
    )

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        variant: VariantName = "auto",
        workers: int | None = None,
        threads_per_worker: int = 1,
        operating_point: OperatingPoint = DEFAULT_OPERATING_POINT,
        thresholds: Mapping[str, float] | None = None,
        require_signature: str | Path | None = None,
    ) -> None:
        """Load a bundle from disk; its files are verified first.

        Args:
            path: The bundle; None is the tagger that ships with studytag.
            variant: `fp32`, `int8`, `int8-openvino` (needs the extra `openvino`), `fast` (reads
                less and answers slightly worse), or `auto`: of all but `fast` the fastest as
                `studytag.inference.benchmark` measured it on this machine, else int8.
            workers: Documents run side by side; None takes every core that this process may use.
            threads_per_worker: Cores that work on one document. More than one answer a single
                record sooner, as a service wants it, and many records later.
            operating_point: The set of thresholds that decides.
            thresholds: By label, in [0, 1]; over those of the operating point.
            require_signature: A public key, a PEM file: refuse a bundle that its owner did not
                sign.

        Raises:
            BundleError: the bundle is incomplete, altered, unknown to this version, or not signed
                as required.
            InputError: no such variant, operating point or label, or a number is out of range.
        """
        for name, count in (("workers", workers), ("threads_per_worker", threads_per_worker)):
            if not (count is None or (isinstance(count, Integral) and count >= 1)):
                raise InputError(
                    f"{name} must be a whole number, at least 1, not {count!r}; leave it out"
                )
        self._path = local_folder(path)
        self._options: dict[str, Any] = {
            "variant": variant,
            "workers": workers,
            "threads_per_worker": threads_per_worker,
            "operating_point": operating_point,
            "thresholds": None if thresholds is None else dict(thresholds),
            "require_signature": require_signature and str(Path(require_signature).resolve()),
        }
        if require_signature is not None:
            verify_signature(self._path, require_signature)
        self._manifest = load_manifest(self._path, variants=())
        self._bundle_sha256 = sha256(self._path / MANIFEST)
        self._variant = self._choose(variant)
        verify_variant(self._path, self._manifest, self._variant)
        self._operating_point = operating_point
        self._thresholds = self._resolve(operating_point, thresholds)
        self._threads_per_worker = threads_per_worker
        self._model = Model(self._path, self._manifest, self._variant, threads_per_worker)
        count = workers or max(available_cores() // threads_per_worker, 1)
        self._workers = Workers(self._model, self._manifest.text_recipe, count)
        self._resolved = self._path.resolve()  # the working directory may change

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path | None = None,
        *,
        revision: str | None = None,
        variant: VariantName = "auto",
        workers: int | None = None,
        threads_per_worker: int = 1,
        operating_point: OperatingPoint = DEFAULT_OPERATING_POINT,
        thresholds: Mapping[str, float] | None = None,
        require_signature: str | Path | None = None,
    ) -> Predictor:
        """Load a bundle by its folder, as the constructor does, or by name.

        Args:
            path: A folder; an installed package; `hf://organisation/name` of a model on the
                Hugging Face Hub, which is downloaded once and cached; or None, as in the
                constructor.
            revision: A branch, tag or commit of a model on the Hub.
            variant: As in the constructor, like all that follow.
            workers: Documents run side by side.
            threads_per_worker: Cores that work on one document.
            operating_point: The set of thresholds that decides.
            thresholds: By label.
            require_signature: A public key.

        Raises:
            StudytagError: as the constructor, or `studytag.inference.sources.find_bundle`.
        """
        return cls(
            find_bundle(path, revision),
            variant=variant,
            workers=workers,
            threads_per_worker=threads_per_worker,
            operating_point=operating_point,
            thresholds=thresholds,
            require_signature=require_signature,
        )

    @classmethod
    def from_package(
        cls,
        name: str,
        *,
        variant: VariantName = "auto",
        workers: int | None = None,
        threads_per_worker: int = 1,
        operating_point: OperatingPoint = DEFAULT_OPERATING_POINT,
        thresholds: Mapping[str, float] | None = None,
        require_signature: str | Path | None = None,
    ) -> Predictor:
        """Load the bundle of an installed package that `studytag package` made.

        Args:
            name: Of the package, such as `studytag_dental`.
            variant: As in the constructor, like all that follow.
            workers: Documents run side by side.
            threads_per_worker: Cores that work on one document.
            operating_point: The set of thresholds that decides.
            thresholds: By label.
            require_signature: A public key.

        Raises:
            InputError: the package is not installed, or carries no bundle.
            StudytagError: as the constructor.
        """
        return cls(
            package_bundle(name),
            variant=variant,
            workers=workers,
            threads_per_worker=threads_per_worker,
            operating_point=operating_point,
            thresholds=thresholds,
            require_signature=require_signature,
        )

    @property
    def manifest(self) -> Manifest:
        """What the bundle says of itself."""
        return self._manifest

    @property
    def path(self) -> Path:
        """The bundle."""
        return self._path

    @property
    def bundle_sha256(self) -> str:
        """Of the bundle's manifest, which has those of its files, as it was when it was loaded."""
        return self._bundle_sha256

    @property
    def labels(self) -> list[str]:
        """The labels, in the order of probability arrays."""
        return list(self._manifest.labels)

    @property
    def label_set(self) -> LabelSet:
        """The labels and what they imply."""
        return self._manifest.labels

    @property
    def variant(self) -> str:
        """The variant in use."""
        return self._variant

    @property
    def operating_point(self) -> str:
        """The set of thresholds that decides."""
        return self._operating_point

    @property
    def thresholds(self) -> dict[str, float]:
        """The threshold of each label; change them by `thresholds=`, here or for each call."""
        return dict(zip(self.labels, self._thresholds.tolist(), strict=True))

    @property
    def workers(self) -> int:
        """Documents run side by side."""
        return self._workers.count

    @property
    def threads_per_worker(self) -> int:
        """Cores that work on one document."""
        return self._threads_per_worker

    @overload
    def predict(
        self,
        records: Records,
        *,
        operating_point: OperatingPoint | None = None,
        thresholds: Mapping[str, float] | None = None,
        errors: Literal["raise"] = "raise",
    ) -> list[Prediction]: ...

    @overload
    def predict(
        self,
        records: Records,
        *,
        operating_point: OperatingPoint | None = None,
        thresholds: Mapping[str, float] | None = None,
        errors: Literal["return"],
    ) -> list[Prediction | InputError]: ...

    def predict(
        self,
        records: Records,
        *,
        operating_point: OperatingPoint | None = None,
        thresholds: Mapping[str, float] | None = None,
        errors: Literal["raise", "return"] = "raise",
    ) -> list[Any]:
        """Tag one record or many; the order is kept.

        Args:
            records: A mapping with `title` and/or `abstract`, a text, an iterable of these, or a
                table (pandas, polars, Arrow) with such columns.
            operating_point: Decide by these thresholds instead of the predictor's own.
            thresholds: By label; over those of `operating_point`, or the predictor's own.
            errors: `raise` at the first record without text, or `return` its error in its place.

        Returns:
            One prediction for each record, also where a single record was given.

        Raises:
            InputError: a record has no text (names its index), or no such operating point or label.
        """
        return list(self._predict(records, operating_point, thresholds, errors))

    @overload
    def predict_iter(
        self,
        records: Records,
        *,
        operating_point: OperatingPoint | None = None,
        thresholds: Mapping[str, float] | None = None,
        errors: Literal["raise"] = "raise",
    ) -> Iterator[Prediction]: ...

    @overload
    def predict_iter(
        self,
        records: Records,
        *,
        operating_point: OperatingPoint | None = None,
        thresholds: Mapping[str, float] | None = None,
        errors: Literal["return"],
    ) -> Iterator[Prediction | InputError]: ...

    def predict_iter(
        self,
        records: Records,
        *,
        operating_point: OperatingPoint | None = None,
        thresholds: Mapping[str, float] | None = None,
        errors: Literal["raise", "return"] = "raise",
    ) -> Iterator[Any]:
        """As `predict`, for any iterable, in constant memory: it is read two windows ahead."""
        return self._predict(records, operating_point, thresholds, errors)

    def _predict(
        self,
        records: Records,
        operating_point: str | None,
        thresholds: Mapping[str, float] | None,
        errors: str,
    ) -> Iterator[Any]:
        if errors not in ("raise", "return"):
            raise InputError(f"errors must be 'raise' or 'return', not {errors!r}")
        decide_by = self._decide_by(operating_point, thresholds)
        rows = self._workers.readings(iterate_records(records))
        return (
            self._outcome(index, row, decide_by, errors == "raise")
            for index, row in enumerate(rows)
        )

    async def predict_async(
        self,
        records: Records,
        *,
        operating_point: OperatingPoint | None = None,
        thresholds: Mapping[str, float] | None = None,
    ) -> list[Prediction | InputError]:
        """As `predict` with `errors="return"`, beside an event loop that goes on meanwhile.

        All records are handed to the threads at once; those that wait are withdrawn if the caller
        is cancelled.

        Raises:
            InputError: no such operating point or label, or `records` holds no articles.
        """
        decide_by = self._decide_by(operating_point, thresholds)
        rows = self._workers.submit(list(iterate_records(records)))
        futures = [asyncio.wrap_future(row) for row in rows if isinstance(row, Future)]
        await asyncio.gather(*futures, return_exceptions=True)
        return [self._outcome(index, reading_of(row), decide_by) for index, row in enumerate(rows)]

    def predict_proba(self, records: Records) -> NDArray[np.float32]:
        """Probabilities of shape (n, labels), columns in the order of `labels`.

        Raises:
            InputError: a record has no text; names its index.
        """
        rows = [
            _raise_if_error(index, row).probabilities
            for index, row in enumerate(self._workers.readings(iterate_records(records)))
        ]
        return np.array(rows, dtype=np.float32).reshape(len(rows), len(self._manifest.labels))

    def on(self, executor: Executor) -> Predictor:
        """Share the weights: a predictor whose documents are run by `executor`, one a task.

        A service shares its cores among requests in this way. Closing the returned predictor shuts
        `executor` down and leaves this one as it is.
        """
        shared = object.__new__(Predictor)
        for name in Predictor.__slots__:
            if name != "__weakref__":
                setattr(shared, name, getattr(self, name))
        shared._workers = self._workers.on(executor)
        return shared

    def close(self) -> None:
        """Stop the threads once their work is done. The predictor starts new ones if used again."""
        self._workers.close()

    def __enter__(self) -> Predictor:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return (
            f"Predictor({str(self._path)!r}, variant={self._variant!r}, workers={self.workers}, "
            f"threads_per_worker={self._threads_per_worker}, "
            f"operating_point={self._operating_point!r})"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _load_predictor, (str(self._resolved), self._options)

    def _choose(self, variant: str) -> str:
        """The variant to load."""
        offered = self._manifest.served_variants(self._path)
        if variant == "auto":
            offered = [name for name in offered if name != FAST] or offered
            runnable = [name for name in runnable_variants(self._manifest) if name in offered]
            rates = kept_rates(self._manifest) if len(runnable) > 1 else {}
            chosen, reason = choose_variant(runnable or offered, rates, has_fast_int8())
            if len(offered) > 1:
                logger.info("variant %s: %s", chosen, reason)
            return chosen
        if variant not in offered:
            raise InputError(
                f"{self._path} has no variant {variant!r}; choose from: auto, {', '.join(offered)}"
            )
        return variant

    def _decide_by(
        self, operating_point: str | None, thresholds: Mapping[str, float] | None
    ) -> NDArray[np.float64]:
        """The thresholds of one call, shape (labels,)."""
        if operating_point is None:
            return self._changed(self._thresholds, thresholds)
        return self._resolve(operating_point, thresholds)

    def _resolve(
        self, operating_point: str, thresholds: Mapping[str, float] | None
    ) -> NDArray[np.float64]:
        """The thresholds of an operating point, with others over them, shape (labels,)."""
        values = np.array(self._manifest.thresholds(self._variant, operating_point))
        return self._changed(values, thresholds)

    def _changed(
        self, values: NDArray[np.float64], thresholds: Mapping[str, float] | None
    ) -> NDArray[np.float64]:
        """Thresholds of shape (labels,) with those of some labels in place of their own."""
        if thresholds is None:
            return values
        resolved: NDArray[np.float64] = values.copy()
        names = list(self._manifest.labels)
        for label, threshold in thresholds.items():
            if label not in names:
                raise InputError(
                    f"thresholds: unknown label {label!r}; the labels are {', '.join(names)}"
                )
            if not (isinstance(threshold, Real) and 0 <= threshold <= 1):
                raise InputError(f"thresholds: {label} must be between 0 and 1, not {threshold!r}")
            resolved[names.index(label)] = threshold
        return resolved

    def _outcome(
        self,
        index: int,
        row: Reading | InputError,
        thresholds: NDArray[np.float64],
        raises: bool = False,
    ) -> Outcome:
        if isinstance(row, InputError) and not raises:
            return row
        reading = _raise_if_error(index, row)
        labels = self._manifest.labels
        return Prediction(
            labels.decode(labels.decide(reading.probabilities, thresholds)),
            dict(zip(labels, reading.probabilities.tolist(), strict=True)),
            reading.tokens,
        )


def _load_predictor(path: str, options: dict[str, Any]) -> Predictor:
    """What unpickling calls."""
    return Predictor(path, **options)


def _raise_if_error(index: int, row: Reading | InputError) -> Reading:
    if isinstance(row, InputError):
        raise InputError(f"record {index}: {row}") from row
    return row
