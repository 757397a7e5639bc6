"""`studytag serve`: what its users ask of it, over a real connection."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from service_support import JSON

from studytag import InputError, Predictor
from studytag.service.errors import Failures, add_error_handlers
from studytag.service.model_api import describe

pytest_plugins = ["service_fixtures"]

ARTICLES = [
    {"title": "Fluoride varnish in children: a trial", "abstract": "We gave it. It worked. Fine."},
    {"title": "Sealants in beagle dogs: a review", "abstract": None},
]


@pytest.fixture(scope="module")
def expected(exported):
    with Predictor(exported.bundle) as predictor:
        yield predictor.predict(ARTICLES)


def test_a_full_disk_is_507_and_tells_no_path():
    app = FastAPI()
    add_error_handlers(app)

    @app.get("/")
    def full() -> None:
        raise InputError("/srv/x: cannot be written") from OSError(errno.ENOSPC, "no space left")

    answer = TestClient(app).get("/")
    assert answer.status_code == 507
    assert "/srv" not in answer.text


def test_what_nobody_foresaw_has_the_form_of_all_errors(caplog):
    app = FastAPI()
    add_error_handlers(app)

    @app.get("/")
    def broken() -> None:
        raise ZeroDivisionError("secret")

    app.add_middleware(Failures)
    answer = TestClient(app).get("/")
    assert answer.status_code == 500
    assert answer.json() == {
        "error": "the server failed; its log says why",
        "error_type": "internal",
    }
    assert "ZeroDivisionError: secret" in caplog.text


class TestTag:
    def test_gives_what_the_predictor_gives(self, client, expected):
        answer = client.post("/v1/tag", json={"articles": ARTICLES}).json()
        assert answer["operating_point"] == "f1"
        for result, prediction in zip(answer["results"], expected, strict=True):
            assert result["labels"] == prediction.labels
            given = {label: each["probability"] for label, each in result["decisions"].items()}
            assert given == prediction.probabilities
            present = [label for label, each in result["decisions"].items() if each["present"]]
            assert present == prediction.labels

    def test_takes_one_article_and_gives_its_id_back(self, client, expected):
        answer = client.post("/v1/tag", json={"articles": {**ARTICLES[0], "id": "x-1"}}).json()
        (result,) = answer["results"]
        assert result["id"] == "x-1"
        assert result["labels"] == expected[0].labels
        assert result["truncated"] is False
        assert "explanation" not in result

    def test_an_article_without_text_has_its_error_in_its_place(self, client, expected):
        articles = [{"id": "empty", "title": " "}, ARTICLES[1]]
        first, second = client.post("/v1/tag", json={"articles": articles}).json()["results"]
        assert first["id"] == "empty"
        assert first["error"]["error_type"] == "empty"
        assert second["labels"] == expected[1].labels

    def test_says_that_the_end_was_not_read(self, client):
        long = {"abstract": "fluoride varnish " * 200}
        (result,) = client.post("/v1/tag", json={"articles": long}).json()["results"]
        assert result["truncated"] is True

    def test_decides_by_the_operating_point_of_the_request(self, client, exported):
        body = {"articles": ARTICLES, "operating_point": "sensitive"}
        answer = client.post("/v1/tag", json=body).json()
        with Predictor(exported.bundle, operating_point="sensitive") as predictor:
            expected = [each.labels for each in predictor.predict(ARTICLES)]
            thresholds = predictor.thresholds
        assert [each["labels"] for each in answer["results"]] == expected
        decisions = answer["results"][0]["decisions"]
        assert {label: each["threshold"] for label, each in decisions.items()} == thresholds

    def test_explains_by_leaving_each_sentence_out(self, client, exported):
        body = {"articles": ARTICLES, "explain": True}
        both, title_only = client.post("/v1/tag", json=body).json()["results"]
        sentences = [each["sentence"] for each in both["explanation"]]
        assert sentences == [ARTICLES[0]["title"], "We gave it.", "It worked.", "Fine."]
        assert title_only["explanation"] == []
        with Predictor(exported.bundle) as predictor:
            whole, without = predictor.predict_proba(
                [ARTICLES[0], {**ARTICLES[0], "abstract": "We gave it. Fine."}]
            )
        given = list(both["explanation"][2]["contributions"].values())
        assert given == pytest.approx((whole - without).tolist(), abs=1e-6)

    def test_explains_no_sentence_without_which_nothing_is_left(self, client):
        article = {"title": "A trial", "abstract": "\u200b"}
        body = {"articles": article, "explain": True}
        (result,) = client.post("/v1/tag", json=body).json()["results"]
        (explained,) = result["explanation"]
        assert explained["sentence"] == article["abstract"]
        assert set(explained["contributions"].values()) == {0}


class TestModel:
    def test_says_what_it_tags_with(self, client, exported):
        model = client.get("/v1/model").json()
        with Predictor(exported.bundle) as predictor:
            assert model["labels"] == predictor.labels
            assert model["variant"] == predictor.variant
            f1 = model["operating_points"]["f1"]
            assert f1["thresholds"] == predictor.thresholds
        assert f1["metrics"]["RCT"]["support"] > 0
        assert all(each["description"] for each in model["operating_points"].values())
        assert model["default_operating_point"] == "f1"
        assert model["measured_on"] == "the articles that the thresholds were tuned on"
        assert len(model["bundle_sha256"]) == 64

    def test_has_no_metrics_of_labels_that_were_not_measured(self, exported):
        with Predictor(exported.bundle) as predictor:
            variant = predictor.manifest.variants[predictor.variant]
            scores = variant.scores[predictor.operating_point]
            unmeasured = replace(scores.labels["RCT"], known=0, support=0)
            scores.labels["RCT"] = unmeasured
            point = describe(predictor, "x").operating_points[predictor.operating_point]
        assert {*point.metrics} == {*predictor.labels} - {"RCT"}


class TestPredict:
    def test_one_text_gets_sorted_scores_of_independent_labels(self, client, expected):
        text = " ".join(ARTICLES[0].values())
        scores = client.post("/predict", json={"inputs": text}).json()
        values = [each["score"] for each in scores]
        assert values == sorted(values, reverse=True)
        assert {each["label"]: each["score"] for each in scores} == expected[0].probabilities

    def test_shapes(self, client):
        def shape(inputs):
            answer = client.post("/predict", json={"inputs": inputs}).json()
            return [len(each) for each in answer] if isinstance(answer[0], list) else len(answer)

        assert shape("a text") == 5
        assert shape(["a text"]) == 5
        assert shape(["a title", "an abstract"]) == 5
        assert shape([["a text"]]) == [5]
        assert shape([["a text"], ["a title", "an abstract"]]) == [5, 5]

    def test_a_pair_is_title_and_abstract(self, client, expected):
        pair = [ARTICLES[0]["title"], ARTICLES[0]["abstract"]]
        scores = client.post("/predict", json={"inputs": pair}).json()
        assert {each["label"]: each["score"] for each in scores} == expected[0].probabilities

    def test_raw_scores_are_logits(self, client):
        def scores(**options):
            answer = client.post("/predict", json={"inputs": "a trial", **options}).json()
            return {each["label"]: each["score"] for each in answer}

        raw = scores(raw_scores=True)
        for label, probability in scores().items():
            assert 1 / (1 + math.exp(-raw[label])) == pytest.approx(probability, abs=1e-4)

    def test_refuses_to_truncate_if_told(self, client):
        body = {"inputs": "fluoride varnish " * 200, "truncate": False}
        answer = client.post("/predict", json=body)
        assert answer.status_code == 413
        assert answer.json()["error_type"] == "validation"
        assert "tokens" in answer.json()["error"]

    def test_headers_tell_the_times(self, client):
        headers = client.post("/predict", json={"inputs": ["title", "more"]}).headers
        assert headers["x-compute-characters"] == "9"
        assert int(headers["x-compute-tokens"]) > 2
        for name in ("x-total-time", "x-queue-time", "x-inference-time", "x-compute-time"):
            assert int(headers[name]) >= 0

    def test_info_and_health(self, client):
        info = client.get("/info").json()
        assert info["model_type"]["classifier"]["id2label"]["2"] == "RCT"
        assert info["max_input_length"] == 64
        assert client.get("/health").status_code == 200


HUB_CLIENT = """
import json, sys
from huggingface_hub import InferenceClient
url, text = sys.argv[1:]
client = InferenceClient(model=f"{url}/predict")
answers = [
    client.text_classification(text, top_k=3),
    client.text_classification(text, function_to_apply="none"),
    client.text_classification(text, function_to_apply="softmax"),
    InferenceClient(model=url).text_classification(text),
]
print(json.dumps([[(each.label, each.score) for each in answer] for answer in answers]))
"""


def _ask_with_hub_client(url: str, text: str) -> list[list[tuple[str, float]]]:
    """What the client says in a process of its own: this one is offline to it."""
    done = subprocess.run(
        [sys.executable, "-c", HUB_CLIENT, url, text],
        env=os.environ | {"HF_HUB_OFFLINE": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


class TestClients:
    """Real clients, as their users call them."""

    def test_hugging_face_hub(self, server, expected):
        text = " ".join(ARTICLES[0].values())
        best, raw, softmax, root = _ask_with_hub_client(server.url, text)
        probabilities = expected[0].probabilities
        assert [label for label, _ in best] == sorted(probabilities, key=probabilities.get)[:1:-1]
        assert dict(best) == {label: probabilities[label] for label, _ in best}
        assert not all(0 <= score <= 1 for _, score in raw)
        assert sum(score for _, score in softmax) == pytest.approx(1)
        assert dict(root) == probabilities

    @pytest.mark.parametrize(("binary", "version"), [(True, ""), (False, "1")])
    def test_triton(self, server, expected, binary, version):
        http = pytest.importorskip("tritonclient.http")
        client = http.InferenceServerClient(server.url.removeprefix("http://"))
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("studytag", version)
        assert not client.is_model_ready("studytag", "2")
        metadata = client.get_model_metadata("studytag", version)
        columns = metadata["parameters"]["labels"]
        texts = [" ".join(filter(None, each.values())) for each in ARTICLES]
        tensor = http.InferInput("text", [len(texts)], "BYTES")
        tensor.set_data_from_numpy(np.array(texts, dtype=object), binary_data=binary)
        result = client.infer("studytag", [tensor], model_version=version)
        given = result.as_numpy("probabilities")
        wanted = [[each.probabilities[label] for label in columns] for each in expected]
        np.testing.assert_array_equal(given, np.array(wanted, dtype=np.float32))
        present = [[label in each.labels for label in columns] for each in expected]
        assert result.as_numpy("present").tolist() == present

    def test_triton_with_title_and_abstract(self, server, expected):
        http = pytest.importorskip("tritonclient.http")
        client = http.InferenceServerClient(server.url.removeprefix("http://"))
        tensors = []
        for name in ("title", "abstract"):
            tensor = http.InferInput(name, [2, 1], "BYTES")
            values = [[each[name] or ""] for each in ARTICLES]
            tensor.set_data_from_numpy(np.array(values, dtype=object))
            tensors.append(tensor)
        wanted = [http.InferRequestedOutput("probabilities")]
        result = client.infer("studytag", tensors, outputs=wanted)
        first = list(expected[0].probabilities.values())
        assert result.as_numpy("probabilities")[0].tolist() == pytest.approx(first)
        assert result.as_numpy("present") is None


def infer_body(**changes) -> dict:
    tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"], **changes}
    return {"inputs": [tensor]}


BAD = [
    ("/v1/tag", "not JSON", 422, "validation"),
    ("/v1/tag", '{"articles": [], "operating_point": "f1"}', 400, "empty"),
    ("/v1/tag", '{"articles": [{"title": 3}]}', 422, "validation"),
    ("/v1/tag", '{"articles": "text"}', 422, "validation"),
    ("/v1/tag", '{"articles": {"title": "a"}, "operating_point": "best"}', 422, "validation"),
    ("/v1/tag", '{"articles": {"title": "a", "abstrct": "b"}}', 422, "validation"),
    ("/v1/tag", '{"articles": [{"title": "a"}], "operating_pont": "f1"}', 422, "validation"),
    ("/v1/tag", '{"articles": {"title": "a"}, "' + "x" * 5000 + '": 1}', 422, "validation"),
    ("/v1/tag", b'{"articles": {"title": "\xff"}}', 400, "bad_request"),
    ("/v1/tag", "[" * 100_000, 400, "bad_request"),
    ("/v1/tag", '{"articles": {"title": "' + "a " * 60_000 + '"}}', 413, "too_large"),
    ("/v1/tag", " " * 11_000_000, 413, "too_large"),
    ("/v1/tag", '{"articles": [' + "{}," * 1_000_000 + "{}]}", 413, "too_large"),
    ("/predict", "{}", 422, "validation"),
    ("/predict", '{"inputs": ""}', 422, "validation"),
    ("/predict", '{"inputs": []}', 400, "empty"),
    ("/predict", '{"inputs": ["a", "b", "c"]}', 422, "validation"),
    ("/predict", '{"inputs": "\\ud800"}', 422, "validation"),
    ("/predict", '{"inputs": "a", "parameters": {"top_k": 0}}', 422, "validation"),
    ("/v2/models/other/infer", json.dumps(infer_body()), 404, "not_found"),
    ("/v2/models/studytag/infer", json.dumps(infer_body(shape=[2])), 400, "bad_request"),
    ("/v2/models/studytag/infer", json.dumps(infer_body(datatype="FP32")), 400, "bad_request"),
    ("/v2/models/studytag/infer", json.dumps(infer_body(data=None)), 400, "bad_request"),
    ("/v2/models/studytag/infer", "nothing", 400, "bad_request"),
    (
        "/v2/models/studytag/infer",
        json.dumps({"inputs": infer_body()["inputs"] * 2}),
        *(400, "bad_request"),
    ),
    (
        "/v2/models/studytag/infer",
        json.dumps(infer_body(parameters={"binary_data_size": 0}, shape=[0])),
        *(400, "bad_request"),
    ),
    ("/nothing", "{}", 405, "method_not_allowed"),
]


@pytest.mark.parametrize(
    ("path", "body", "status", "kind"), BAD, ids=[f"{path} {body[:30]!r}" for path, body, *_ in BAD]
)
def test_bad_input_gets_its_code_and_one_sentence(client, path, body, status, kind):
    answer = client.post(path, content=body, headers=JSON)
    assert (answer.status_code, answer.json()["error_type"]) == (status, kind), answer.text
    assert len(answer.json()["error"]) < 300
    assert client.get("/health").status_code == 200


@pytest.mark.parametrize("sent", [{"content": '{"articles": []}'}, {"json": []}])
def test_a_body_that_is_no_object_is_told_its_content_type(client, sent):
    answer = client.post("/v1/tag", **sent)
    assert answer.status_code == 422
    assert answer.json()["error"].endswith("send one, with Content-Type: application/json")


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        *(("HEAD", path, 200, None) for path in ("/", "/health", "/v1/model", "/app.js")),
        *(("GET", path, 405, "POST") for path in ("/v1/tag", "/predict")),
        *(("OPTIONS", path, 405, "POST") for path in ("/v1/tag", "/v1/files")),
        *(("PUT", "/health", 405, "GET"), ("GET", "/v1/tag/", 404, None)),
    ],
)
def test_methods_are_answered_by_what_the_path_takes(client, method, path, status, allow):
    answer = client.request(method, path)
    assert (answer.status_code, answer.headers.get("allow")) == (status, allow), answer.text


def test_bytes_that_no_tensor_accounts_for_are_refused(client):
    head = json.dumps(infer_body()).encode()
    length = {"Inference-Header-Content-Length": str(len(head))}
    path = "/v2/models/studytag/infer"
    assert client.post(path, content=head, headers=length).status_code == 200
    answer = client.post(path, content=head + b"\1\0\0\0a", headers=length)
    assert answer.status_code == 400
    assert "5 bytes behind the JSON" in answer.json()["error"]


def test_metrics_count_requests_articles_and_tokens(client):
    def value(name):
        text = client.get("/metrics").text
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.M)
        return float(found.group(1)) if found else 0.0

    requests = 'studytag_requests_total{method="POST",path="/v1/tag",status="200"}'
    articles = 'studytag_articles_total{outcome="tagged"}'
    before = [value(name) for name in (requests, articles, "studytag_article_tokens_count")]
    client.post("/v1/tag", json={"articles": ARTICLES})
    after = [value(name) for name in (requests, articles, "studytag_article_tokens_count")]
    assert [now - then for then, now in zip(before, after, strict=True)] == [1, 2, 2]
    assert value("studytag_queue_articles") == 0


def test_the_log_has_no_text_of_articles(server, client):
    client.post("/v1/tag", json={"articles": {"title": "Unmistakable words"}})
    client.post("/v1/tag", json={"articles": {"title": ["Unmistakable words"]}})
    client.get("/Unmistakable")
    log = server.log.read_text(encoding="utf-8")
    assert "POST /v1/tag 200" in log
    assert "POST /v1/tag 422" in log
    assert "Unmistakable" not in log


class TestPage:
    def test_is_at_the_root_with_a_strict_policy(self, client):
        answer = client.get("/")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/html")
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self';")
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in answer.headers

    @pytest.mark.parametrize("path", ["/../app.py", "/%2e%2e/app.py", "/..%2fapp.py"])
    def test_serves_nothing_outside_its_folder(self, client, path):
        assert client.get(path).status_code == 404
