"""The OpenAPI document is true: whatever is sent, the service answers as it says there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from service_support import ris, upload, wait_for_job
from support import invented_articles

pytest_plugins = ["service_fixtures"]

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)


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
@pytest.mark.parametrize(
    "options",
    [
        # Each operation by itself, on a job that is never deleted.
        ("--phases", "examples,coverage,fuzzing", "--exclude-method", "DELETE"),
        # One after the other, on the jobs that come of it.
        ("--phases", "stateful", "--include-path-regex", "^/v1/files"),
    ],
)
def test_generated_requests_get_documented_answers(server, tmp_path, options):
    """Schemathesis makes up requests, good and bad, and checks every answer."""
    with server.client() as client:
        id = upload(client, "a.ris", ris(invented_articles(5))).json()["id"]
        wait_for_job(client, id)
    if "--exclude-method" in options:  # ids that it makes up belong to no job: it is given one
        (tmp_path / "schemathesis.toml").write_text(f'[parameters]\n"path.id" = "{id}"\n')
    command = [
        *(str(Path(sys.executable).with_name("schemathesis")), "run"),
        *(f"{server.url}/openapi.json", "--checks", ",".join(CHECKS), *options),
        *("--max-examples", "20", "--request-timeout", "120"),
        *("--continue-on-failure", "--no-color", "--seed", "1"),
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
