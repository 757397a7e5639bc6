"""Fixtures of the tests of the service; test modules name it in `pytest_plugins`."""

from __future__ import annotations

import pytest
from service_support import start_server


@pytest.fixture(scope="module")
def server(exported, tmp_path_factory):
    running = start_server(tmp_path_factory.mktemp("service"), exported.bundle)
    yield running
    assert running.stop() == 0


@pytest.fixture
def client(server):
    with server.client() as client:
        yield client
