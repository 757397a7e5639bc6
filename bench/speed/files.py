"""What files cost beside the model, and whether memory grows with their length."""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from studytag.inference.files import predict_file

from bench.harness.machine import occasion, peak_memory, run_command
from bench.harness.store import Raw
from bench.speed.prepare import TINY, prepare, random_distilbert
from studytag import Predictor
from studytag.files import open_writer, read_rows
from studytag.records import Row

FORMATS = ("parquet", "csv", "jsonl", "jsonl.gz")
ROUNDS = 6
"""Over whose portions the model's time is the median."""


def files(options: argparse.Namespace) -> Raw:
    """Time to read and write real articles in each format; peak memory of tagging short records."""
    rows = list(islice(read_rows(options.source), options.articles))
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "real").mkdir()
        (folder / "tiny").mkdir()
        setting = prepare(options.model, [], folder / "real")
        with Predictor.from_pretrained(setting.bundle) as predictor:
            seconds = []
            for number in range(ROUNDS):
                portion = rows[number::ROUNDS][:100]
                started = time.perf_counter()
                predictor.predict(portion)
                seconds.append((time.perf_counter() - started) / len(portion))
            variant = predictor.variant
        model = random_distilbert(options.model, folder / "tiny" / "trained", **TINY)
        tiny = prepare(model, [], folder / "tiny")
        content = {
            "kind": "files",
            **occasion(),
            "articles": len(rows),
            "variant": variant,
            "model_us": 1e6 * statistics.median(seconds),
            "costs_us": {suffix: _costs(rows, folder, suffix) for suffix in FORMATS},
            "peaks_mib": {str(n): _peak(tiny.bundle, n, folder) for n in options.counts},
        }
    return Raw(options.name or "files", content)


def _costs(rows: list[Row], folder: Path, suffix: str) -> tuple[float, float]:
    """Microseconds to read and to write a row."""
    path = folder / f"articles.{suffix}"
    started = time.perf_counter()
    with open_writer(path) as writer:
        for row in rows:
            writer.write(row)
    written = time.perf_counter()
    count = sum(1 for _ in read_rows(path))
    read = time.perf_counter()
    return 1e6 * (read - written) / count, 1e6 * (written - started) / count


def _peak(bundle: Path, count: int, folder: Path) -> float:
    """Largest resident set, in MiB, of a process that tags a parquet file of `count` records."""
    source = folder / f"{count}.parquet"
    with open_writer(source) as writer:
        for number in range(count):
            writer.write({"pmid": str(number), "title": f"Sealants in school children, {number}"})
    paths = (str(bundle), str(source), str(folder / f"{count}-tagged.parquet"))
    command = (sys.executable, "-m", "bench.speed", "one-file", *paths)
    return float(run_command(*command, capture=True).splitlines()[-1])


def one_file(bundle: Path, source: Path, target: Path) -> float:
    """In a fresh process: tag a file; peak memory in MiB."""
    with Predictor.from_pretrained(bundle) as predictor:
        predict_file(predictor, source, target, progress=False)
    return peak_memory()
