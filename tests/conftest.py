"""Fixtures: a tiny model and its bundle, made once for each test run; no hub, no download."""

from __future__ import annotations

import os
from importlib.util import find_spec

import pytest
from hypothesis import settings
from support import OTHER_FIELD, Exported, export_tiny

# The same examples in every run: a change never fails for what it did not touch.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

os.environ.setdefault("HF_HUB_OFFLINE", "1")

# What is not installed everywhere (FastAPI needs Python 3.11), and the tests that are nothing
# without it.
NEEDS = {
    "fastapi": ["test_service*.py", "test_page.py", "test_deploy.py"],
    "playwright": ["test_page.py"],
    "kubernetes_validate": ["test_deploy.py"],
    "pyzotero": ["test_zotero.py"],
}
MISSING = [package for package in NEEDS if find_spec(package) is None]
collect_ignore_glob = [pattern for package in MISSING for pattern in NEEDS[package]]


def pytest_report_header() -> list[str]:
    """Say what is not tested here."""
    return [f"not installed: {name}; without {', '.join(NEEDS[name])}" for name in MISSING]


@pytest.fixture(scope="session")
def exported(tmp_path_factory) -> Exported:
    """A DistilBERT: no token types."""
    return export_tiny(tmp_path_factory.mktemp("distilbert"), "distilbert")


@pytest.fixture(scope="session")
def exported_bert(tmp_path_factory) -> Exported:
    """A BERT: token types, and a pooler."""
    return export_tiny(tmp_path_factory.mktemp("bert"), "bert")


@pytest.fixture(scope="session")
def exported_field(tmp_path_factory) -> Exported:
    """A DistilBERT of another field: labels of other names, one of which implies another."""
    return export_tiny(tmp_path_factory.mktemp("field"), "distilbert", OTHER_FIELD)


@pytest.fixture(params=["exported", "exported_field"])
def any_field(request) -> Exported:
    """Study designs, and another field: what serves one serves the other."""
    return request.getfixturevalue(request.param)
