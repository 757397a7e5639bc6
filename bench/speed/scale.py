"""What millions of records take: processor time, what committed parts add to it, and memory."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from bench.harness.machine import interleaved, occasion, run_command
from bench.harness.store import write_rows
from bench.speed.inference import sample_articles
from studytag import Predictor
from studytag.files import read_rows
from studytag.files.fields import MODEL_FIELDS
from studytag.inference.files import Options, predict_file
from studytag.manifest import load_manifest
from studytag.records import Row

_PREDICT = """
import sys
from bench.harness.machine import peak_memory
from studytag.cli.main import main
main(["predict", *sys.argv[1:], "--quiet"])
print(peak_memory())
"""


def cost(options: argparse.Namespace) -> dict[str, Any]:
    """Each bundle and variant tags the same articles on one core, in turns, other ones each round.

    Processor time, since it is what a cluster is paid by, and other work on a shared machine
    disturbs it less than wall-clock time does.
    """
    articles, others = sample_articles(options.source, options.articles * options.rounds)
    count = len(articles) // options.rounds
    words = [len(str(row.get(name, "")).split()) for row in articles for name in MODEL_FIELDS]
    predictors: dict[str, Predictor] = {}
    for bundle in options.bundle:
        manifest = load_manifest(bundle)
        for variant in manifest.variants:
            predictor = Predictor(bundle, variant=variant, workers=1)  # type: ignore[arg-type]
            predictor.predict_proba(others)
            predictors[f"{manifest.encoder}, {variant}"] = predictor
    tasks = {
        name: lambda number, predictor=predictor: predictor.predict_proba(
            articles[number * count : (number + 1) * count]
        )
        for name, predictor in predictors.items()
    }
    return {
        "kind": "cost",
        "articles": count,
        "rounds": options.rounds,
        "records": options.records,
        "words_per_document": sum(words) / len(articles),
        "processor_seconds": interleaved(tasks, options.rounds, clock=time.process_time),
        **occasion(),
    }


def runs(options: argparse.Namespace) -> dict[str, Any]:
    """What committed parts cost, and how much memory long and wide files take.

    Overhead: the same file is tagged with and without parts, in turns. Memory: the peak of
    `studytag predict` in a process of its own. One row in `--text-every` has text for the model:
    memory does not depend on it, and a million predictions take hours.
    """
    content: dict[str, Any] = {"kind": "runs", "articles": options.articles, **occasion()}
    with TemporaryDirectory() as folder:
        if options.only != "memory":
            content["overhead"] = _overhead(options, Path(folder))
        if options.only != "overhead":
            content["peak_mib"] = _memory(options, Path(folder))
    return content


def _overhead(options: argparse.Namespace, folder: Path) -> dict[str, list[list[float]]]:
    """Wall-clock and processor seconds of each round, with parts and without."""
    source = folder / "in.jsonl"
    rows = (row for row in read_rows(options.source) if row.get("abstract"))
    write_rows(source, islice(rows, options.articles))
    with Predictor(options.bundle, variant=options.variant) as predictor:

        def tag(resume: bool) -> None:
            how = Options(resume=resume)
            predict_file(predictor, source, folder / "out.jsonl", options=how, progress=False)

        tag(False)
        seconds = interleaved(
            {"direct": lambda _: tag(False), "parts": lambda _: tag(True)},
            options.rounds,
            clock=lambda: np.array([time.perf_counter(), time.process_time()]),
        )
    return {name: np.array(rounds).tolist() for name, rounds in seconds.items()}


def _memory(options: argparse.Namespace, folder: Path) -> dict[str, float]:
    found = {}
    for name, count, size in (("short rows", 1_000_000, 0), ("rows of 100 kB", 10_000, 100_000)):
        for suffix in ("parquet", "jsonl", "csv"):
            source, target = folder / f"in.{suffix}", folder / f"out.{suffix}"
            write_rows(source, _rows(count, size, options.text_every))
            command = ("-c", _PREDICT, source, target, "--bundle", options.bundle)
            said = run_command(sys.executable, *map(str, command), capture=True)
            found[f"{count:,} {name}, {suffix}"] = round(float(said), 1)
            source.unlink()
            target.unlink()
    return found


def _rows(count: int, size: int, text_every: int) -> Iterator[Row]:
    for number in range(count):
        text = "A randomised trial of sealants" if number % text_every == 0 else ""
        notes = f"{number:08d} " * (size // 9)
        yield {"pmid": str(number + 1), "title": text, "abstract": text, "notes": notes}
