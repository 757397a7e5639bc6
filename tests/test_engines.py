"""Existing engines tag: Arrow, DuckDB, Polars, pandas, and real local Ray and Spark."""

from __future__ import annotations

import faulthandler
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import LABELS, OTHER_FIELD, REPOSITORY, invented_articles

from studytag import InputError, Predictor, predict_file
from studytag.inference import spark as spark_adapter
from studytag.inference.arrow import tag_batches, tag_table, tagged_schema
from studytag.inference.ray import Tagger, tag_dataset
from studytag.inference.spark import tag_partitions

EXAMPLES = REPOSITORY / "infer" / "examples"
ROWS = 90
WORKER_PATH = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")])
"""Where the engines' own processes find studytag and this module."""


@pytest.fixture(scope="module")
def articles() -> pa.Table:
    """Articles of which the fourth cannot be tagged."""
    rows = invented_articles(ROWS)
    rows[3] |= {"title": " ", "abstract": None}
    return pa.Table.from_pylist(rows)


def expected(bundle, table):
    """What `predict` says of each row: labels and rounded probabilities, or the error."""
    with Predictor(bundle, variant="fp32") as predictor:
        outcomes = predictor.predict(table, errors="return")
    return {
        pmid: [None, None, str(outcome)]
        if isinstance(outcome, InputError)
        else [outcome.labels, rounded(outcome.probabilities.values()), None]
        for pmid, outcome in zip(table["pmid"].to_pylist(), outcomes, strict=True)
    }


def rounded(probabilities):
    return [round(probability, 5) for probability in probabilities]


def found(rows):
    """The tags of each row of a tagged table, in the form of `expected`; each pmid once."""
    rows = list(rows)
    assert max(Counter(row["pmid"] for row in rows).values()) == 1
    tags = {}
    for row in rows:
        values = [value for name, value in row.items() if name.startswith("p_")]
        labels, error = row["studytag_labels"], row["studytag_error"]
        failed = error is not None
        tags[row["pmid"]] = [
            None if failed else list(labels),
            None if failed else rounded(values),
            error,
        ]
    return tags


def run_example(name, *arguments, **options):
    done = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py", *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)} | options,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# Arrow


def test_a_table_is_tagged_as_predict_does(any_field, articles):
    with Predictor(any_field.bundle, variant="fp32") as predictor:
        tagged = tag_table(articles, predictor)
        labels = predictor.labels
    assert tagged.select(articles.column_names).equals(articles)
    assert tagged.schema == tagged_schema(articles.schema, labels)
    assert found(tagged.to_pylist()) == expected(any_field.bundle, articles)
    assert tagged["studytag_error"].null_count == ROWS - 1


def test_columns_are_those_of_a_tagged_file(any_field, articles, tmp_path):
    source, target = tmp_path / "in.parquet", tmp_path / "out.parquet"
    pq.write_table(articles.slice(0, 3), source)
    with Predictor(any_field.bundle, variant="fp32") as predictor:
        predict_file(predictor, source, target)
        ours = tag_table(articles.slice(0, 3), predictor)
    theirs = pq.read_table(target)
    assert ours.column_names == theirs.column_names
    added = ours.column_names[len(articles.column_names) :]
    for name in added:
        assert ours[name].to_pylist() == theirs[name].to_pylist()


def test_a_stream_keeps_batches_and_is_lazy(exported, articles):
    sizes = [0, 7, 1, 0, 0, 30, 52, 0]
    edges = np.cumsum([0, *sizes])
    batches = [
        pa.RecordBatch.from_pylist(articles.slice(start, size).to_pylist(), schema=articles.schema)
        for start, size in zip(edges, sizes, strict=False)
    ]
    read = []

    def endless():
        while True:
            for batch in batches:
                read.append(batch.num_rows)
                yield batch

    with Predictor(exported.bundle, variant="fp32", workers=2) as predictor:
        stream = tag_batches(endless(), predictor)
        tagged = [next(stream) for _ in sizes]
        stream.close()
        finite = list(tag_batches(batches, predictor))
    assert [batch.num_rows for batch in tagged] == sizes
    assert len(read) < 4 * len(sizes)
    assert finite == tagged
    table = pa.Table.from_batches(finite)
    assert found(table.to_pylist()) == expected(exported.bundle, articles)


def test_a_table_without_rows(exported, articles):
    with Predictor(exported.bundle) as predictor:
        for empty in (articles.slice(0, 0), articles.schema.empty_table()):
            tagged = tag_table(empty, predictor)
            assert tagged.num_rows == 0
            assert tagged.schema == tagged_schema(articles.schema, LABELS)


def test_anything_that_is_a_table_is_tagged(exported, articles):
    rows = articles.to_pylist()
    encoded = articles.set_column(1, "title", articles["title"].dictionary_encode())
    large = articles.cast(
        pa.schema([field.with_type(_large(field.type)) for field in articles.schema])
    )
    wanted = expected(exported.bundle, articles)
    tables = [pd.DataFrame(rows), pl.DataFrame(rows), encoded, large, articles.to_reader()]
    with Predictor(exported.bundle, variant="fp32") as predictor:
        for table in tables:
            assert found(tag_table(table, predictor).to_pylist()) == wanted


def _large(kind):
    return pa.large_string() if pa.types.is_string(kind) else kind


def test_tables_that_cannot_be_tagged(exported, articles):
    with Predictor(exported.bundle) as predictor:
        with pytest.raises(InputError, match="neither a column 'title' nor 'abstract', but pmid"):
            tag_table(articles.select(["pmid"]), predictor)
        with pytest.raises(InputError, match="already has a column 'studytag_labels'"):
            tag_table(tag_table(articles.slice(0, 1), predictor), predictor)
        with pytest.raises(InputError, match="expected an Arrow table, .* not str"):
            tag_table("A trial", predictor)
        with pytest.raises(InputError, match=r"not DataFrame \(.* for column title with type"):
            tag_table(pd.DataFrame({"title": ["A trial", 1]}), predictor)
        numbers = tag_table(pa.table({"title": [1, 2]}), predictor)
    assert "expected text, found int 1" in numbers["studytag_error"][0].as_py()


@pytest.mark.parametrize("name", ["duckdb_query", "polars_frame"])
def test_examples_of_engines_in_the_process(name, any_field, articles, tmp_path):
    source, target = tmp_path / "in.parquet", tmp_path / "out.parquet"
    pq.write_table(articles, source)
    run_example(name, any_field.bundle, source, target)
    tagged = found(pq.read_table(target).to_pylist())
    with Predictor(any_field.bundle) as predictor:
        assert tagged.keys() == expected(any_field.bundle, articles).keys()
        assert tagged == found(tag_table(articles, predictor).to_pylist())


def test_the_example_with_pandas(any_field, articles, tmp_path):
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    articles.to_pandas().to_csv(source, index=False)
    run_example("pandas_column", any_field.bundle, source, target)
    tagged = pd.read_csv(target)
    with Predictor(any_field.bundle) as predictor:
        assert list(tagged)[-len(predictor.labels) :] == predictor.labels
        one = predictor.predict(articles.slice(0, 1).to_pylist()[0])[0].labels
    assert [label for label in predictor.labels if tagged[label][0]] == one
    assert not tagged.loc[3, predictor.labels].any()


# Ray


class KilledOnce(Tagger):
    """Its process dies by SIGKILL in the middle of the work, once."""

    def __init__(self, *arguments, marker, **options):
        super().__init__(*arguments, **options)
        self.marker = Path(marker)
        self.batches = 0

    def __call__(self, table):
        self.batches += 1
        tagged = super().__call__(table)
        if self.batches == 2 and _create(self.marker):
            os.kill(os.getpid(), signal.SIGKILL)
        return tagged


class FailsOnce(KilledOnce):
    """Raises instead, which ends the job, once some rows are written and checkpointed."""

    def __call__(self, table):
        self.batches += 1
        if self.batches == 3 and _create(self.marker):
            limit = time.monotonic() + 120
            while time.monotonic() < limit and not _files(self.marker.parent / "checkpoint"):
                time.sleep(0.1)
            raise RuntimeError("the building is on fire")
        return Tagger.__call__(self, table)


def _files(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def _create(marker):
    """Whether we are the first."""
    try:
        marker.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


@pytest.fixture(scope="module")
def ray(pytestconfig):
    # Read when Ray is imported: a busy machine takes long to start it.
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "300")
    ray = pytest.importorskip("ray")
    ray.init(
        num_cpus=3,  # two for actors, one for the tasks that read and write
        object_store_memory=100 * 2**20,
        include_dashboard=False,
        logging_level="ERROR",
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": WORKER_PATH}},
    )
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield ray
    ray.shutdown()
    # It takes the handler away that says in which test a process crashed.
    with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        faulthandler.disable()
        faulthandler.enable(os.dup(2))


@pytest.mark.slow
def test_ray_tags_a_dataset(ray, any_field, articles):
    dataset = ray.data.from_arrow(articles)
    tagged = tag_dataset(dataset, str(any_field.bundle), actors=1, batch_size=20, variant="fp32")
    assert found(tagged.take_all()) == expected(any_field.bundle, articles)


@pytest.mark.slow
def test_an_actor_killed_midway_loses_and_repeats_nothing(ray, exported, articles, tmp_path):
    marker = tmp_path / "killed"
    dataset = ray.data.from_arrow([articles.slice(part * 15, 15) for part in range(6)])
    tagged = dataset.map_batches(
        KilledOnce,
        fn_constructor_kwargs={
            "bundle": str(exported.bundle),
            "variant": "fp32",
            "marker": str(marker),
        },
        batch_format="pyarrow",
        batch_size=5,
        compute=ray.data.ActorPoolStrategy(size=2),
        num_cpus=1,
    )
    rows = tagged.take_all()
    assert marker.exists()
    assert found(rows) == expected(exported.bundle, articles)


@pytest.mark.slow
def test_the_example_with_ray_goes_on_where_a_failed_job_stopped(ray, exported, articles, tmp_path):
    from ray.data.checkpoint import CheckpointConfig

    source, target, checkpoint = (tmp_path / name for name in ("in", "out", "checkpoint"))
    source.mkdir()
    for part in range(6):
        pq.write_table(articles.slice(part * 15, 15), source / f"{part}.parquet")
    context = ray.data.DataContext.get_current()
    sizes = context.target_min_block_size, context.target_max_block_size
    # Blocks so small that some are written before the last is tagged.
    context.target_min_block_size, context.target_max_block_size = 1, 2048
    context.checkpoint_config = CheckpointConfig("pmid", str(checkpoint))
    try:
        with pytest.raises(Exception, match="on fire"):
            ray.data.read_parquet(str(source), override_num_blocks=6).map_batches(
                FailsOnce,
                fn_constructor_kwargs={
                    "bundle": str(exported.bundle),
                    "marker": str(tmp_path / "failed"),
                },
                batch_format="pyarrow",
                batch_size=15,
                compute=ray.data.ActorPoolStrategy(size=1),
                num_cpus=1,
            ).write_parquet(str(target))
    finally:
        context.checkpoint_config = None
        context.target_min_block_size, context.target_max_block_size = sizes
    before = {part.name: part.stat().st_mtime_ns for part in target.glob("*.parquet")}
    done = sum(pq.read_metadata(target / name).num_rows for name in before)
    assert 0 < done < ROWS

    program = (
        "import runpy, sys, ray;"
        "ray.init(num_cpus=3, object_store_memory=100 * 2**20, include_dashboard=False);"
        "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    again = subprocess.run(
        [
            *(sys.executable, "-c", program, EXAMPLES / "ray_data.py"),
            *(exported.bundle, source, target, checkpoint),
        ],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.returncode == 0, again.stderr
    after = {part.name: part.stat().st_mtime_ns for part in target.glob("*.parquet")}
    assert before.items() <= after.items()
    rows = [row for name in after for row in pq.read_table(target / name).to_pylist()]
    assert found(rows).keys() == set(articles["pmid"].to_pylist())


# Spark


def _tag_and_note(batches, function, notes):
    """Tag, and note how often this worker has loaded a predictor."""
    yield from function(batches)
    loaded = spark_adapter._predictor.cache_info().misses
    Path(notes, f"{os.getpid()}-{loaded}").touch()


def _tag_and_die_once(batches, function, marker):
    for number, batch in enumerate(function(batches)):
        yield batch
        if number == 1 and _create(Path(marker)):
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(scope="module")
def spark():
    pytest.importorskip("pyspark")
    if shutil.which("java") is None:
        pytest.skip("Spark needs Java, and there is none")
    from pyspark.sql import SparkSession

    os.environ["PYSPARK_PYTHON"] = sys.executable
    session = (
        SparkSession.builder.master("local[2,3]")  # two cores, and a task may fail twice
        .config("spark.driver.memory", "1g")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.sql.execution.arrow.maxRecordsPerBatch", "5")
        .config("spark.executorEnv.PYTHONPATH", WORKER_PATH)
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("OFF")
    yield session
    session.stop()


@pytest.fixture
def frame(spark, articles):
    return spark.createDataFrame(articles).repartition(6)


def as_rows(frame):
    return [row.asDict() for row in frame.collect()]


@pytest.mark.slow
def test_spark_tags_a_frame(frame, any_field, articles):
    tagged = frame.mapInArrow(*tag_partitions(frame.schema, str(any_field.bundle), variant="fp32"))
    assert (
        tagged.schema[
            "p_" + json.loads((any_field.bundle / "config.json").read_text())["id2label"]["0"]
        ].dataType.simpleString()
        == "double"
    )
    assert found(as_rows(tagged)) == expected(any_field.bundle, articles)


@pytest.mark.slow
def test_a_spark_worker_loads_one_predictor(frame, exported, tmp_path):
    function, schema = tag_partitions(frame.schema, str(exported.bundle), variant="fp32")
    noting = partial(_tag_and_note, function=function, notes=str(tmp_path))
    assert frame.mapInArrow(noting, schema).count() == ROWS
    # A worker that an earlier test has used has loaded that test's bundle too, but one of ours.
    notes = [path.name.split("-") for path in tmp_path.iterdir()]
    assert 1 <= len(notes) == len({worker for worker, _ in notes})


@pytest.mark.slow
def test_a_spark_worker_killed_midway_loses_and_repeats_nothing(
    frame, exported, articles, tmp_path
):
    function, schema = tag_partitions(frame.schema, str(exported.bundle), variant="fp32")
    marker = tmp_path / "killed"
    dying = partial(_tag_and_die_once, function=function, marker=str(marker))
    rows = as_rows(frame.mapInArrow(dying, schema))
    assert marker.exists()
    assert found(rows) == expected(exported.bundle, articles)


@pytest.mark.slow
def test_frames_that_spark_cannot_tag(frame, exported):
    bundle = str(exported.bundle)
    with pytest.raises(InputError, match="neither a column 'title' nor 'abstract', but pmid"):
        tag_partitions(frame.select("pmid").schema, bundle)
    with pytest.raises(InputError, match="already has a column 'studytag_labels'"):
        tag_partitions(tag_partitions(frame.schema, bundle).schema, bundle)


@pytest.mark.slow
def test_the_example_with_spark(spark, exported, articles, tmp_path):
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    pq.write_table(articles, source / "part.parquet")
    run_example(
        "spark_job",
        *(exported.bundle, source, target),
        PYSPARK_PYTHON=sys.executable,
        PYSPARK_SUBMIT_ARGS="--master local[2] --driver-memory 1g pyspark-shell",
    )
    assert found(pq.read_table(target).to_pylist()).keys() == set(articles["pmid"].to_pylist())


def test_another_field_has_other_columns(exported_field, articles):
    with Predictor(exported_field.bundle, variant="fp32") as predictor:
        tagged = tag_table(articles, predictor)
    assert [name for name in tagged.column_names if name.startswith("p_")] == [
        f"p_{label}" for label in OTHER_FIELD
    ]
    for row in tagged.to_pylist():
        if "Heart failure" in (row["studytag_labels"] or ()):
            assert "Cardiology" in row["studytag_labels"]
