from __future__ import annotations

import asyncio
import json
import multiprocessing
import pickle
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from support import LABELS, MAX_LENGTH, REPOSITORY, edit_manifest, invented_articles

from studytag import Prediction, Predictor
from studytag.errors import BundleError, InputError
from studytag.hashing import hash_files
from studytag.inference.identity import predictor_identity
from studytag.inference.model import sigmoid
from studytag.labels import LabelSet
from studytag.manifest import MANIFEST, load_manifest, write_manifest


@pytest.fixture(scope="module")
def predictor(exported):
    with Predictor.from_pretrained(exported.bundle, variant="fp32", workers=2) as loaded:
        yield loaded


@pytest.fixture
def bundle(exported, tmp_path):
    """A copy that a test may spoil."""
    return shutil.copytree(exported.bundle, tmp_path / "bundle")


def set_thresholds(bundle, **points):
    manifest = load_manifest(bundle)
    fp32 = replace(manifest.variants["fp32"], thresholds=points)
    write_manifest(bundle, replace(manifest, variants={"fp32": fp32}))


@pytest.mark.parametrize("kind", ["exported", "exported_bert"])
def test_fp32_equals_pytorch(kind, request):
    exported = request.getfixturevalue(kind)
    with Predictor.from_pretrained(exported.bundle, variant="fp32") as predictor:
        probabilities = predictor.predict_proba(exported.articles)
    assert probabilities.dtype == np.float32
    assert np.abs(probabilities - exported.expected).max() < 1e-4
    assert np.ptp(probabilities, axis=0).max() > 0.2  # or agreement would mean nothing


@pytest.mark.parametrize("kind", ["exported", "exported_bert"])
@pytest.mark.parametrize("variant", ["fp32", "int8"])
def test_neither_neighbours_nor_order_nor_threads_matter(kind, variant, request):
    exported = request.getfixturevalue(kind)
    order = np.random.default_rng(0).permutation(len(exported.articles))
    with Predictor.from_pretrained(exported.bundle, variant=variant, workers=1) as one:
        together = one.predict_proba(exported.articles)
        alone = np.concatenate([one.predict_proba([row]) for row in exported.articles])
    with Predictor.from_pretrained(exported.bundle, variant=variant, workers=3) as three:
        shuffled = three.predict_proba([exported.articles[index] for index in order])
    with Predictor.from_pretrained(
        exported.bundle, variant=variant, threads_per_worker=2
    ) as shared:
        by_two = shared.predict_proba(exported.articles)
    if variant == "int8":
        assert np.array_equal(alone, together)
        assert np.array_equal(shuffled, together[order])
        assert np.array_equal(by_two, together)
    else:
        assert np.abs(alone - together).max() < 1e-6
        assert np.abs(shuffled - together[order]).max() < 1e-6
        assert np.abs(by_two - together).max() < 1e-6


def test_prediction_holds_labels_in_order_and_every_probability(predictor, exported):
    predictions = predictor.predict(exported.articles)
    probabilities = predictor.predict_proba(exported.articles)
    assert predictor.labels == LABELS
    assert any(prediction.labels for prediction in predictions)
    for prediction, row in zip(predictions, probabilities, strict=True):
        assert isinstance(prediction, Prediction)
        assert list(prediction.probabilities) == LABELS
        assert list(prediction.probabilities.values()) == row.tolist()
        expected = [
            label
            for label, value in zip(LABELS, row, strict=True)
            if value >= predictor.thresholds[label]
        ]
        assert prediction.labels == expected


def test_each_label_has_its_own_threshold_and_reaching_it_is_enough(bundle, exported):
    row = exported.articles[0]
    with Predictor.from_pretrained(bundle, variant="fp32") as predictor:
        exact = predictor.predict_proba([row])[0].astype(float).tolist()
    above = [float(np.nextafter(value, 1)) for value in exact]
    set_thresholds(
        bundle, f1=exact, precise=above, balanced=[exact[0], *above[1:3], exact[3], above[4]]
    )
    with Predictor.from_pretrained(bundle) as predictor:
        assert predictor.predict([row])[0].labels == LABELS
        assert predictor.predict([row], operating_point="precise")[0].labels == []
        assert predictor.predict([row], operating_point="balanced")[0].labels == [
            LABELS[0],
            LABELS[3],
        ]
    with Predictor.from_pretrained(bundle, operating_point="balanced") as predictor:
        assert predictor.operating_point == "balanced"
        assert predictor.predict([row])[0].labels == [LABELS[0], LABELS[3]]


def test_probabilities_are_independent_of_one_another(predictor, exported):
    sums = predictor.predict_proba(exported.articles).sum(axis=1)
    assert np.ptp(sums) > 0.1  # a softmax would make every sum 1


@pytest.mark.filterwarnings("error")
def test_sigmoid_at_the_ends():
    values = sigmoid(np.array([-1e4, -100, 0, 100, 1e4], dtype=np.float32))
    assert values.dtype == np.float32
    assert values.tolist() == pytest.approx([0, 3.8e-44, 0.5, 1, 1])


def test_text_title_or_abstract_alone(predictor):
    title, abstract = "Sealants in rat molars: a trial", "We measured plaque."
    rows = [
        f"{title} {abstract}",
        {"title": title, "abstract": abstract},
        {"abstract": f" {title}\n{abstract} "},
        {"title": title, "abstract": abstract, "year": 1999, "pmid": None},
    ]
    assert len({row.tobytes() for row in predictor.predict_proba(rows)}) == 1


def test_nothing_in_nothing_out(predictor):
    assert predictor.predict([]) == []
    assert predictor.predict_proba([]).shape == (0, len(LABELS))
    assert list(predictor.predict_iter(iter(()))) == []


@pytest.mark.parametrize(
    "bad",
    [
        *({}, {"title": " ", "abstract": None}, {"title": float("nan")}, {"title": 7}, 7),
        *("\ud83d", "\u200b", {"title": "\ufeff", "abstract": "\u00ad"}),
    ],
)
@pytest.mark.parametrize("method", ["predict", "predict_proba"])
def test_a_bad_record_is_named_by_its_index(predictor, method, bad):
    with pytest.raises(InputError, match=r"^record 2: "):
        getattr(predictor, method)(["A trial", "A review", bad, "A cohort"])


@pytest.mark.parametrize("one", ["A trial", {"title": "A trial"}])
def test_one_record_is_a_list_of_one(predictor, one):
    assert predictor.predict(one) == predictor.predict([one])
    assert predictor.predict_proba(one).shape == (1, len(LABELS))


def test_errors_can_be_returned_in_their_place(predictor):
    good, bad, last = predictor.predict(["A trial", {}, "A trial"], errors="return")
    assert isinstance(bad, InputError)
    assert good == last
    with pytest.raises(InputError, match="errors must be 'raise' or 'return'"):
        predictor.predict(["A trial"], errors="ignore")


def tables(articles):
    """The same articles as every kind of table."""
    import pandas as pd
    import pyarrow as pa

    frame = pd.DataFrame(articles)
    columns = frame[["title", "abstract"]].fillna("").astype("U200")
    return {
        "DataFrame": frame,
        "indexed from elsewhere": frame.set_index("pmid"),
        "without a title": frame[["abstract", "year"]],
        "Arrow table": pa.table(frame),
        "record batch": pa.RecordBatch.from_pandas(frame),
        "record array": np.rec.fromrecords(columns.values.tolist(), names="title,abstract"),
        "Series of texts": frame["title"],
    }


@pytest.mark.parametrize("kind", sorted(tables(invented_articles(2))))
def test_a_table_is_read_by_its_columns(predictor, kind):
    articles = [row for row in invented_articles(9) if row["abstract"]]
    expected = {
        "without a title": [{"abstract": row["abstract"]} for row in articles],
        "record array": [row | {"abstract": row["abstract"][:200]} for row in articles],
        "Series of texts": [row["title"] for row in articles],
    }.get(kind, articles)
    got = predictor.predict_proba(tables(articles)[kind])
    assert np.array_equal(got, predictor.predict_proba(expected))


@pytest.mark.parametrize(
    "kind", ["text", "mapping", "generator", *sorted(tables(invented_articles(2)))]
)
def test_predict_async_takes_what_predict_takes(predictor, kind):
    articles = invented_articles(4)
    given = {
        "text": lambda: "A trial",
        "mapping": lambda: articles[0],
        "generator": lambda: iter(articles),
    }.get(kind, lambda: tables(articles)[kind])
    expected = predictor.predict(given(), errors="return")
    got = asyncio.run(predictor.predict_async(given()))
    assert [*map(repr, got)] == [*map(repr, expected)]


def test_a_row_of_a_table_is_one_record(predictor):
    import pandas as pd

    articles = invented_articles(3)
    row = pd.DataFrame(articles).iloc[1]
    assert predictor.predict(row) == predictor.predict(articles[1])


@pytest.mark.parametrize(
    ("records", "message"),
    [
        (b"A trial", "bytes; decode them"),
        (7, "records are a int"),
        (np.array([["A", "B"]]), "an array of 2 dimensions"),
        ({"title": ["A", "B"]}, "record 0: expected text, found list"),
    ],
)
def test_what_is_no_record_is_refused(predictor, records, message):
    with pytest.raises(InputError, match=message):
        predictor.predict(records)


def test_a_column_that_is_there_twice_is_refused(predictor):
    """pandas would give both as one table, whose iteration gives their names."""
    import pandas as pd
    import pyarrow as pa

    frame = pd.DataFrame([["A trial", "A review"]] * 2, columns=["title", "title"])
    table = pa.table([["A trial"], ["A review"]], names=["title", "title"])
    for records in (frame, frame.iloc[0], table):
        with pytest.raises(InputError, match="has the column 'title' more than once; rename"):
            predictor.predict(records)


@pytest.mark.filterwarnings("ignore::polars.exceptions.PerformanceWarning")
def test_a_query_is_no_table_yet(predictor):
    import duckdb
    import polars as pl

    for query in (pl.LazyFrame({"title": ["A trial"]}), duckdb.sql("SELECT 'A trial' AS title")):
        with pytest.raises(InputError, match=f"the rows of a {type(query).__name__} are not in"):
            predictor.predict(query)


def test_methods_that_are_called_as_columns_are_make_no_table(predictor):
    class Result:  # of SQLAlchemy, which iterates over mappings
        def columns(self, *names):
            raise NotImplementedError

        column_names = keys = columns

        def __iter__(self):
            return iter([{"title": "A trial"}])

    assert predictor.predict(Result()) == predictor.predict("A trial")


def test_a_table_without_text_columns_is_refused(predictor):
    import pandas as pd

    frame = pd.DataFrame({"Titel": ["A trial"], "pmid": ["1"]})
    with pytest.raises(
        InputError, match="neither a column 'title' nor 'abstract', but Titel, pmid"
    ):
        predictor.predict(frame)


def test_thresholds_can_be_given(exported, predictor):
    never = dict.fromkeys(LABELS, 1.0)
    assert not any(p.labels for p in predictor.predict(exported.articles, thresholds=never))
    always = predictor.predict(exported.articles[:1], thresholds={"RCT": 0.0})[0]
    assert "RCT" in always.labels
    with Predictor(exported.bundle, variant="fp32", thresholds={"RCT": 0.0}) as lenient:
        assert lenient.thresholds == predictor.thresholds | {"RCT": 0.0}
        assert lenient.predict(exported.articles[0])[0] == always
        both = lenient.predict(exported.articles[0], thresholds={"Human": 0.0})[0]
        assert {"RCT", "Human"} <= {*both.labels}
        plain = lenient.predict(exported.articles, operating_point="f1")  # the bundle's alone
        assert plain == predictor.predict(exported.articles)
    for bad, message in (
        ({"Trial": 0.5}, "unknown label 'Trial'"),
        ({"RCT": 1.5}, "RCT must be between 0 and 1"),
        ({"RCT": float("nan")}, "RCT must be between 0 and 1"),
        ({"RCT": "0.5"}, "RCT must be between 0 and 1, not '0.5'"),
    ):
        with pytest.raises(InputError, match=message):
            predictor.predict("A trial", thresholds=bad)


@pytest.mark.parametrize("name", ["thresholds", "labels", "variant", "workers", "typo"])
def test_what_cannot_be_set_fails_loudly(predictor, name):
    with pytest.raises(AttributeError):
        setattr(predictor, name, None)


def test_its_repr_says_how_it_was_loaded(predictor, exported):
    assert repr(predictor) == (
        f"Predictor({str(exported.bundle)!r}, variant='fp32', workers=2, threads_per_worker=1, "
        "operating_point='f1')"
    )


def test_a_pickled_predictor_is_loaded_again_by_path(predictor, exported, tmp_path, monkeypatch):
    with Predictor(exported.bundle, variant="fp32", thresholds={"RCT": 0.1}) as original:
        stored = pickle.dumps(original)
        expected = original.predict(exported.articles[:5])
    monkeypatch.chdir(tmp_path)
    with pickle.loads(stored) as copy:
        assert copy.predict(exported.articles[:5]) == expected


def test_a_predictor_stays_the_bundle_that_was_loaded(bundle, monkeypatch):
    """Its process may change its directory, and a newer bundle may take the folder."""
    monkeypatch.chdir(bundle.parent)
    with Predictor(bundle.name, variant="fp32") as predictor:
        monkeypatch.chdir("/")
        expected, identity = predictor.predict("A trial"), predictor_identity(predictor, None)
        with pickle.loads(pickle.dumps(predictor)) as copy:
            assert copy.predict("A trial") == expected
        set_thresholds(bundle, f1=(0.5,) * len(LABELS))
        assert predictor_identity(predictor, None) == identity
        with Predictor(bundle, variant="fp32") as newer:
            assert predictor_identity(newer, None) != identity


def _predict_in_worker(predictor, articles):
    return predictor.predict_proba(articles).tolist()


def test_joblib_workers_take_a_predictor(predictor, exported):
    from joblib import Parallel, delayed

    halves = exported.articles[:10], exported.articles[10:20]
    results = Parallel(n_jobs=2)(delayed(_predict_in_worker)(predictor, half) for half in halves)
    together = np.array([row for rows in results for row in rows], dtype=np.float32)
    assert np.array_equal(together, predictor.predict_proba(exported.articles[:20]))


def test_implied_labels_follow(bundle, exported):
    """Whatever the model thinks: an RCT is tagged as a Cohort here, and at least as likely one."""
    manifest = load_manifest(bundle)
    labels = LabelSet(manifest.labels.names, {"RCT": ("Cohort",)})
    write_manifest(bundle, replace(manifest, labels=labels))
    with Predictor(bundle, variant="fp32") as plain, Predictor(exported.bundle) as before:
        raised = plain.predict_proba(exported.articles)
        rct, cohort = LABELS.index("RCT"), LABELS.index("Cohort")
        assert (raised[:, cohort] >= raised[:, rct]).all()
        assert (before.predict_proba(exported.articles)[:, cohort] < raised[:, rct]).any()
        strict = {"RCT": 0.2, "Cohort": 1.0}
        tagged = plain.predict(exported.articles, thresholds=strict)
        assert any("RCT" in prediction.labels for prediction in tagged)
        assert all("Cohort" in p.labels for p in tagged if "RCT" in p.labels)


def test_closing_while_others_predict_loses_nothing(exported):
    predictor = Predictor(exported.bundle, variant="fp32", workers=2)
    expected = predictor.predict_proba(exported.articles[:20])
    done = threading.Event()

    def close_again_and_again():
        while not done.is_set():
            predictor.close()

    closer = threading.Thread(target=close_again_and_again)
    closer.start()
    try:
        with ThreadPoolExecutor(3) as pool:
            work = [pool.submit(predictor.predict_proba, exported.articles[:20]) for _ in range(30)]
            assert all(np.array_equal(result.result(), expected) for result in work)
    finally:
        done.set()
        closer.join()
        predictor.close()


def test_predict_iter_reads_two_windows_ahead_and_keeps_the_order(predictor, exported):
    taken = 0

    def endless():
        nonlocal taken
        while True:
            for article in exported.articles:
                taken += 1
                yield article

    predictions = predictor.predict_iter(endless())
    assert taken == 0
    first = [next(predictions) for _ in range(100)]
    assert taken <= 100 + 2 * 16 * predictor.workers
    predictions.close()
    assert first[:60] == predictor.predict(exported.articles)
    assert first[60:] == first[:40]


def test_an_error_of_the_source_arrives(predictor):
    def source():
        yield from ["A trial"] * 100
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        predictor.predict(source())


def test_several_threads_share_a_predictor(predictor, exported):
    expected = predictor.predict(exported.articles)
    barrier = threading.Barrier(6)

    def work(_):
        barrier.wait()
        return predictor.predict(exported.articles)

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(work, range(6))) == [expected] * 6


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_can_predict(predictor, exported):
    """As in a server that loads the predictor and then forks its workers."""
    expected = predictor.predict_proba(exported.articles[:4])
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(
        target=lambda: queue.put(predictor.predict_proba(exported.articles[:4]).tolist())
    )
    child.start()
    child.join(20)
    assert child.exitcode == 0
    assert queue.get() == expected.tolist()


def test_closed_predictors_can_be_used_again(bundle):
    predictor = Predictor.from_pretrained(bundle)
    first = predictor.predict(["A trial"])
    predictor.close()
    predictor.close()
    with predictor:
        assert predictor.predict(["A trial"]) == first


def test_auto_says_what_it_chose(exported, caplog):
    with caplog.at_level("INFO"), Predictor.from_pretrained(exported.bundle) as predictor:
        assert predictor.variant in ("fp32", "int8")
    assert f"variant {predictor.variant}: " in caplog.text


def test_unknown_choices_name_what_there_is(exported, predictor):
    with pytest.raises(InputError, match="no variant 'int4'; choose from: auto, fp32, int8"):
        Predictor.from_pretrained(exported.bundle, variant="int4")
    with pytest.raises(InputError, match="no operating point 'bold'; choose from: f1"):
        Predictor.from_pretrained(exported.bundle, operating_point="bold")
    with pytest.raises(InputError, match="no operating point 'bold'"):
        predictor.predict_iter(["A trial"], operating_point="bold")  # before it is iterated
    with pytest.raises(InputError, match="no operating point ''"):
        predictor.predict("A trial", operating_point="")
    for bad in (0, 2.0, "2"):  # half of an odd number of cores, and what a variable holds
        for name in ("workers", "threads_per_worker"):
            with pytest.raises(InputError, match=f"^{name} must be a whole number, at least 1, no"):
                Predictor.from_pretrained(exported.bundle, **{name: bad})


@pytest.mark.parametrize("name", ["tokenizer.json", "onnx/model.onnx"])
def test_one_altered_byte_is_refused(bundle, name):
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    with pytest.raises(BundleError, match=f"{name} has changed"):
        Predictor.from_pretrained(bundle, variant="fp32")


def test_an_altered_variant_does_not_hinder_the_other(bundle):
    (bundle / "onnx/model_quantized.onnx").write_bytes(b"")
    Predictor.from_pretrained(bundle, variant="fp32").close()
    with pytest.raises(BundleError, match="has changed"):
        Predictor.from_pretrained(bundle, variant="int8")


def test_bundles_of_another_kind_are_refused(bundle, tmp_path):
    with pytest.raises(BundleError, match="neither a model folder nor a bundle"):
        Predictor.from_pretrained(tmp_path)
    edit_manifest(bundle, text_recipe={"name": "abstract-title-v9", "separator": "\n"})
    with pytest.raises(BundleError, match="recipe 'abstract-title-v9' is unknown"):
        Predictor.from_pretrained(bundle)
    edit_manifest(bundle, schema_version=99)
    with pytest.raises(BundleError, match="schema_version is 99"):
        Predictor.from_pretrained(bundle)


def test_a_graph_of_another_number_of_labels_is_refused(bundle):
    manifest = load_manifest(bundle)
    edit_manifest(
        bundle,
        labels=[*LABELS, "InVitro"],
        golden=[],
        variants={
            "fp32": {
                "file": "onnx/model.onnx",
                "thresholds": {"f1": [0.5] * 6},
                "scores": {},
                "parity": {},
                "adjustment": {"slope": {}, "offset": {}},
            }
        },
    )
    assert len(manifest.labels) == 5
    with pytest.raises(BundleError, match="5 outputs for 6 labels"):
        Predictor.from_pretrained(bundle)


def test_truncation_and_padding_stored_in_the_tokenizer_are_overruled(bundle, exported):
    path = bundle / "tokenizer.json"
    stored = json.loads(path.read_text())
    assert stored["truncation"] is None
    assert stored["padding"] is None
    stored["truncation"] = {
        "direction": "Left",
        "max_length": 8,
        "strategy": "LongestFirst",
        "stride": 0,
    }
    stored["padding"] = {
        "strategy": {"Fixed": 128},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "[PAD]",
    }
    path.write_text(json.dumps(stored))
    write_manifest(
        bundle, replace(load_manifest(exported.bundle), files=hash_files(bundle, {MANIFEST}))
    )
    with Predictor.from_pretrained(bundle, variant="fp32") as predictor:
        probabilities = predictor.predict_proba(exported.articles)
    assert np.abs(probabilities - exported.expected).max() < 1e-4


def test_long_texts_are_cut_to_max_length(predictor):
    long, longer = ("plaque " * count for count in (MAX_LENGTH, 50 * MAX_LENGTH))
    first, second = predictor.predict_proba([long, longer])
    assert np.array_equal(first, second)


def test_predicting_needs_neither_torch_nor_pandas_nor_any_extra(exported, tmp_path):
    """Everything but numpy, onnxruntime and tokenizers is made impossible to import."""
    source = tmp_path / "articles.csv"
    source.write_text("title\nA trial of sealants\n", encoding="utf-8")
    program = """
import sys
blocked = {"torch", "transformers", "pandas", "sklearn", "optimum", "pyarrow", "onnx", "tqdm",
           "lxml", "Bio", "rispy", "yaml", "accelerate", "safetensors", "datasets", "scipy"}
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Block())
from studytag import Predictor
from studytag.inference.files import predict_file
import studytag.cli.predict
bundle, source, target = sys.argv[1:]
with Predictor.from_pretrained(bundle) as predictor:
    print(len(predictor.predict(["A trial", {"abstract": "Rats."}])))
    print(predict_file(predictor, source, target).rows)
assert not blocked & set(sys.modules)
"""
    target = tmp_path / "tagged.jsonl"
    done = subprocess.run(
        [sys.executable, "-c", program, str(exported.bundle), str(source), str(target)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["2", "1"]
    assert json.loads(target.read_text())["studytag_error"] is None


def test_the_example_runs(exported):
    examples = REPOSITORY / "infer" / "examples"
    done = subprocess.run(
        [sys.executable, examples / "embed.py", exported.bundle],
        env={"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 4


def test_invented_articles_vary_in_length():
    lengths = {len(str(row["abstract"])) for row in invented_articles(60)}
    assert len(lengths) > 10
