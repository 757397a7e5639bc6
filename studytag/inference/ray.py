"""Ray Data: a predictor in each actor, Arrow in, Arrow out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studytag.errors import import_extra
from studytag.inference.arrow import tag_table
from studytag.inference.predictor import Predictor, VariantName
from studytag.manifest import DEFAULT_OPERATING_POINT, OperatingPoint

if TYPE_CHECKING:
    import pyarrow as pa
    from ray.data import Dataset

BATCH_SIZE = 256
"""Rows handed to an actor at once: seconds of work, so that a lost actor loses little."""


class Tagger:
    """What `Dataset.map_batches` calls: each actor loads one predictor and tags Arrow tables.

    Give `map_batches` as `num_cpus` what an actor uses, `workers * threads_per_worker`:
    onnxruntime does not read the OMP_NUM_THREADS by which Ray limits others. `tag_dataset` does all
    of this.
    """

    def __init__(
        self,
        bundle: str | Path | None = None,
        *,
        revision: str | None = None,
        variant: VariantName = "auto",
        workers: int = 1,
        threads_per_worker: int = 1,
        operating_point: OperatingPoint = DEFAULT_OPERATING_POINT,
        thresholds: Mapping[str, float] | None = None,
        require_signature: str | Path | None = None,
    ) -> None:
        """Load the predictor; Ray does this in the actor.

        Args:
            bundle: As in `Predictor.from_pretrained`; a folder must be at the same place on every
                machine, so a package or a model on the Hub is easier.
            revision: Of a model on the Hub.
            variant: Name one where the machines differ, since `auto` looks at each processor.
            workers: Documents that an actor tags side by side.
            threads_per_worker: Cores that work on one document.
            operating_point: The set of thresholds that decides.
            thresholds: By label; over those of the operating point.
            require_signature: A public key, a PEM file at the same place on every machine.

        Raises:
            StudytagError: as `Predictor.from_pretrained`.
        """
        self._predictor = Predictor.from_pretrained(
            bundle,
            revision=revision,
            variant=variant,
            workers=workers,
            threads_per_worker=threads_per_worker,
            operating_point=operating_point,
            thresholds=thresholds,
            require_signature=require_signature,
        )

    def __call__(self, table: pa.Table) -> pa.Table:
        """The table with the columns that `studytag.inference.arrow.tag_table` adds.

        Raises:
            InputError: as `tag_table`.
        """
        return tag_table(table, self._predictor)


def tag_dataset(
    dataset: Dataset,
    bundle: str | Path | None = None,
    *,
    actors: int | None = None,
    batch_size: int = BATCH_SIZE,
    workers: int = 1,
    threads_per_worker: int = 1,
    **options: Any,
) -> Dataset:
    """Tag a dataset, lazily, by a pool of actors that each load one predictor.

    An actor that dies is started again and its batches are tagged again, so every row comes out
    once.

    Args:
        dataset: With columns `title` and/or `abstract`.
        bundle: As in `Tagger`.
        actors: Their number; None lets Ray use what the cluster has. Leave cores for the tasks
            that read and write: actors on every core would wait for them for ever.
        batch_size: Rows handed to an actor at once.
        workers: Documents that an actor tags side by side.
        threads_per_worker: Cores that work on one document.
        options: The others of `Tagger`.

    Raises:
        MissingDependencyError: ray is not installed.
    """
    data = import_extra("ray.data", "ray")
    size = {"min_size": 1} if actors is None else {"size": actors}
    tagged: Dataset = dataset.map_batches(
        Tagger,
        fn_constructor_kwargs={
            "bundle": bundle,
            "workers": workers,
            "threads_per_worker": threads_per_worker,
            **options,
        },
        batch_format="pyarrow",
        batch_size=batch_size,
        compute=data.ActorPoolStrategy(**size),
        num_cpus=workers * threads_per_worker,
    )
    return tagged
