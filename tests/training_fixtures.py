"""Fixtures of the tests of training: tables, a tiny encoder, and the options of a run.

Test modules name it in `pytest_plugins`: torch and accelerate are imported only for them.
"""

from __future__ import annotations

import pytest
import torch
from support import invented_articles
from training_support import (
    VALIDATION_ROWS,
    forget_accelerator,
    save_tiny_encoder,
    short_run,
    write_label_set,
    write_table,
)

# The models are tiny: threads that wait for one another take longer than their arithmetic.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tables(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    write_table(folder / "train.jsonl", invented_articles(240, seed=2))
    write_table(folder / "val.jsonl", invented_articles(VALIDATION_ROWS, seed=3))
    write_label_set(folder)
    return folder


@pytest.fixture(scope="session")
def encoder(tmp_path_factory):
    return save_tiny_encoder(tmp_path_factory.mktemp("encoder") / "tiny")


@pytest.fixture
def config(tables, encoder, tmp_path):
    yield short_run(tables, encoder, tmp_path)
    forget_accelerator()
