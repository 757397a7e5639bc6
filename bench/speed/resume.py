"""What committed parts cost, and how much memory long and wide files take.

    python -m bench.speed.resume --source articles.parquet --bundle artifacts/bundle

Prints JSON. Overhead: the same file is tagged with and without parts, in turns; medians of the
paired differences, in processor time (which other work on a shared machine disturbs less) and in
wall-clock time. Memory: the peak of `studytag predict` in a process of its own, on a million short
rows and on ten thousand rows of 100 kB. Of these only one row in `--text-every` has text for the
model, since memory does not depend on it and a million predictions take hours.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.harness.machine import interleaved, occasion, run_command
from studytag import Predictor
from studytag.files import open_writer, read_rows
from studytag.inference.files import Options, predict_file
from studytag.records import Row

_CHILD = """
import sys
from bench.harness.machine import peak_memory
from studytag.cli.main import main
main(["predict", *sys.argv[1:]])
print(peak_memory())
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--source", type=Path, required=True, help="table of real articles")
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--variant", default="auto")
    parser.add_argument("--articles", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--text-every", type=int, default=200)
    parser.add_argument("--only", choices=("overhead", "memory"))
    options = parser.parse_args()
    result: dict[str, Any] = dict(occasion())
    with TemporaryDirectory() as folder:
        if options.only != "memory":
            result["overhead"] = _overhead(options, Path(folder))
        if options.only != "overhead":
            result["peak_memory_mib"] = _memory(options, Path(folder))
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


def _overhead(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    source = folder / "in.jsonl"
    rows = (row for row in read_rows(options.source) if row.get("abstract"))
    _write(source, islice(rows, options.articles))
    seconds: dict[str, list[tuple[float, float]]] = {"parts": [], "direct": []}
    with Predictor(options.bundle, variant=options.variant) as predictor:

        def tag(name: str) -> None:
            wall, processor = time.perf_counter(), time.process_time()
            predict_file(
                predictor,
                source,
                folder / f"{name}.jsonl",
                options=Options(resume=name == "parts"),
                progress=False,
            )
            times = time.process_time() - processor, time.perf_counter() - wall
            seconds[name].append(times)

        tag("direct")
        seconds["direct"].clear()
        interleaved(
            {"direct": lambda _: tag("direct"), "parts": lambda _: tag("parts")},
            options.rounds,
        )
    pairs = list(zip(seconds["parts"], seconds["direct"], strict=True))
    return {
        "articles": options.articles,
        "rounds": options.rounds,
        "file_bytes": source.stat().st_size,
        **{
            f"{kind}_percent": 100 * statistics.median(p[i] / d[i] - 1 for p, d in pairs)
            for i, kind in enumerate(("processor", "wall"))
        },
        "direct_processor_ms_per_row": 1000
        * statistics.median(d[0] for _, d in pairs)
        / options.articles,
    }


def _memory(options: argparse.Namespace, folder: Path) -> dict[str, float]:
    found = {}
    for name, rows in (
        ("1,000,000 short rows", _rows(1_000_000, 0, options.text_every)),
        ("10,000 rows of 100 kB", _rows(10_000, 100_000, options.text_every)),
    ):
        kept = folder / "in.parquet"
        _write(kept, rows)
        for suffix in (".parquet", ".jsonl", ".csv"):
            source = folder / f"in{suffix}"
            if source != kept:
                _write(source, read_rows(kept))
            target = folder / f"out{suffix}"
            arguments = [str(source), str(target), "--bundle", str(options.bundle), "--quiet"]
            said = run_command(sys.executable, "-c", _CHILD, *arguments, capture=True)
            found[f"{name}, {suffix[1:]}"] = round(float(said), 1)
            target.unlink()
            if source != kept:
                source.unlink()
    return found


def _rows(count: int, size: int, text_every: int) -> Iterator[Row]:
    for number in range(count):
        text = "A randomised trial of sealants" if number % text_every == 0 else ""
        yield {
            "pmid": str(number + 1),
            "title": text,
            "abstract": text,
            "year": 2020,
            "notes": f"{number:08d} " * (size // 9),
        }


def _write(path: Path, rows: Iterator[Row]) -> None:
    with open_writer(path) as writer:
        for row in rows:
            writer.write(row)


if __name__ == "__main__":
    main()
