"""The OpenAPI document is true: whatever is sent, the service answers as it says there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from service_support import ris, start_server, upload, wait_for_job
from support import invented_articles

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)


@pytest.fixture(scope="module")
def server(exported, tmp_path_factory):
    running = start_server(tmp_path_factory.mktemp("service"), exported.bundle)
    yield running
    running.stop()


def test_every_operation_says_what_it_may_answer(server):
    with server.client() as client:
        document = client.get("/openapi.json").json()
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert len(operations) > 15
    for operation in operations:
        assert operation["description"]
        assert "403" in operation["responses"]
        for code, answer in operation["responses"].items():
            if int(code) >= 400:
                assert list(answer["content"]) == ["application/json"]
    tag = document["components"]["schemas"]["TagRequest"]
    assert tag["examples"]


@pytest.mark.slow
def test_generated_requests_get_documented_answers(server, tmp_path):
    """Schemathesis makes up requests, good and bad, and checks every answer."""
    with server.client() as client:
        id = upload(client, "a.ris", ris(invented_articles(5))).json()["id"]
        wait_for_job(client, id)
    # Ids that it makes up belong to no job: it is given one.
    (tmp_path / "schemathesis.toml").write_text(f'[parameters]\n"path.id" = "{id}"\n')
    command = [
        *(str(Path(sys.executable).with_name("schemathesis")), "run"),
        *(f"{server.url}/openapi.json", "--checks", ",".join(CHECKS)),
        *("--phases", "examples,coverage,fuzzing", "--max-examples", "20"),
        *("--continue-on-failure", "--no-color", "--seed", "1"),
        *("--exclude-method", "DELETE"),
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
