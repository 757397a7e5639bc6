"""Spark: a predictor in each Python worker, Arrow in, Arrow out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

from studytag.errors import import_extra
from studytag.inference.arrow import tag_batches
from studytag.inference.columns import added_names, refuse_taken
from studytag.inference.inputs import text_columns
from studytag.inference.predictor import Predictor, VariantName
from studytag.manifest import DEFAULT_OPERATING_POINT, OperatingPoint

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql.types import StructType


class Tagging(NamedTuple):
    """The arguments of `DataFrame.mapInArrow`.

    Attributes:
        function: Tags the record batches of a partition.
        schema: Of the tagged frame.
    """

    function: Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]
    schema: StructType


def tag_partitions(
    schema: StructType,
    bundle: str | None = None,
    *,
    revision: str | None = None,
    variant: VariantName = "auto",
    workers: int = 1,
    threads_per_worker: int = 1,
    operating_point: OperatingPoint = DEFAULT_OPERATING_POINT,
    thresholds: Mapping[str, float] | None = None,
    require_signature: str | None = None,
) -> Tagging:
    """What tags a frame of this schema: `frame.mapInArrow(*tag_partitions(frame.schema))`.

    A Python worker loads the predictor with its first partition and keeps it for those that follow.
    The frame gains the columns that `studytag.inference.arrow.tag_table` adds.

    Args:
        schema: Of the frame, with `title` and/or `abstract`.
        bundle: As in `Predictor.from_pretrained`; a folder must be at the same place on the driver
            and on every executor, so a package or a model on the Hub is easier.
        revision: Of a model on the Hub.
        variant: Name one where the machines differ, since `auto` looks at each processor.
        workers: Documents that a task tags side by side; Spark runs as many tasks as it has cores,
            so more than one wants `spark.task.cpus` to match. onnxruntime does not read the
            OMP_NUM_THREADS that Spark sets.
        threads_per_worker: Cores that work on one document.
        operating_point: The set of thresholds that decides.
        thresholds: By label; over those of the operating point.
        require_signature: A public key, a PEM file at the same place on the driver and on every
            executor.

    Raises:
        StudytagError: as `Predictor.from_pretrained`, which the driver tries first.
        InputError: the frame has no title and no abstract, or a column that would be added.
        MissingDependencyError: pyspark is not installed.
    """
    types = import_extra("pyspark.sql.types", "spark")
    import_extra("pyarrow", "files")
    options: dict[str, Any] = {
        "revision": revision,
        "variant": variant,
        "workers": workers,
        "threads_per_worker": threads_per_worker,
        "operating_point": operating_point,
        "thresholds": None if thresholds is None else tuple(thresholds.items()),
        "require_signature": require_signature,
    }
    labels = _predictor(bundle, **options).labels
    names = added_names(labels)
    text_columns("the frame", schema.names)
    refuse_taken("the frame", schema.names, names)
    probability = [types.DoubleType()] * len(labels)
    kinds = [types.ArrayType(types.StringType()), *probability, types.StringType()]
    added = map(types.StructField, names, kinds)
    return Tagging(partial(_tag, bundle=bundle, **options), types.StructType([*schema, *added]))


def _tag(
    batches: Iterator[pa.RecordBatch], *, bundle: str | None, **options: Any
) -> Iterator[pa.RecordBatch]:
    return tag_batches(batches, _predictor(bundle, **options))


@lru_cache(maxsize=1)
def _predictor(
    bundle: str | None, *, thresholds: tuple[tuple[str, float], ...] | None, **options: Any
) -> Predictor:
    """The predictor of this process."""
    given = None if thresholds is None else dict(thresholds)
    return Predictor.from_pretrained(bundle, thresholds=given, **options)
