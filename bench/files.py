"""What files cost beside the model, and whether memory grows with them.

    python bench/files.py --source articles.parquet --model artifacts/model/best

First: the time to read and write a real article in each format, against the model's time for one.
Then: peak memory of `predict_file` on 10,000 and on 1,000,000 short made-up records, each in a
process of its own (Linux only), with a tiny random encoder, since the real one's memory is its own.
The table goes to bench/results/NAME.md.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import time
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

from inference import prepare, random_distilbert
from machine import describe_machine, peak_memory

from studytag import Predictor
from studytag.files import open_writer, read_rows, write_text_atomically
from studytag.inference.stream import predict_file

FORMATS = ("parquet", "csv", "jsonl", "jsonl.gz")
TINY = {"dim": 32, "n_layers": 1, "n_heads": 2, "hidden_dim": 64}


def file_costs(rows: list[dict], folder: Path) -> dict[str, tuple[float, float]]:
    """Microseconds to read and to write one row of each format."""
    found = {}
    for suffix in FORMATS:
        path = folder / f"articles.{suffix}"
        started = time.perf_counter()
        with open_writer(path) as writer:
            for row in rows:
                writer.write(row)
        written = time.perf_counter()
        for _ in read_rows(path):
            pass
        read = time.perf_counter()
        found[suffix] = tuple(
            1e6 * each / len(rows) for each in (read - written, written - started)
        )
    return found


def peak_of_tagging(bundle: Path, count: int, folder: Path) -> float:
    """Largest resident set, in MiB, of a process that tags a parquet file of `count` records."""
    source = folder / f"{count}.parquet"
    with open_writer(source) as writer:
        for number in range(count):
            writer.write({"pmid": str(number), "title": f"Sealants in school children, {number}"})
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=_tag, args=(bundle, source, folder / "out.parquet", results))
    process.start()
    process.join()
    return results.get(timeout=10)


def _tag(bundle: Path, source: Path, target: Path, results: multiprocessing.Queue) -> None:
    with Predictor.from_pretrained(bundle) as predictor:
        predict_file(predictor, source, target, progress=False)
    results.put(peak_memory())


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, required=True, help="table of real articles")
    parser.add_argument("--model", type=Path, default=Path("artifacts/model/best"))
    parser.add_argument("--articles", type=int, default=8000, help="real ones, read and written")
    parser.add_argument("--counts", type=int, nargs="+", default=[10_000, 1_000_000])
    parser.add_argument("--name", default="files")
    options = parser.parse_args()
    rows = [row for row, _ in zip(read_rows(options.source), range(options.articles), strict=False)]
    with TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "real").mkdir()
        setting = prepare(options.model, False, [], place / "real")
        with Predictor.from_pretrained(setting.bundle) as predictor:
            seconds = []
            for number in range(6):
                part = rows[number * 100 : (number + 1) * 100]
                started = time.perf_counter()
                predictor.predict(part)
                seconds.append((time.perf_counter() - started) / len(part))
            variant = predictor.variant
        model = 1e6 * statistics.median(seconds)
        costs = file_costs(rows, place)
        (place / "tiny").mkdir()
        random_distilbert(options.model, place / "tiny" / "model", **TINY)
        tiny = prepare(place / "tiny" / "model", False, [], place / "tiny")
        peaks = {count: peak_of_tagging(tiny.bundle, count, place) for count in options.counts}
    lines = [
        f"{len(rows)} real articles with all their columns; the {variant} model takes "
        f"{model / 1000:.1f} ms an article. {describe_machine()}, {date.today().isoformat()}.",
        "",
        "| Format | read, µs an article | write, µs | both, share of the model's time |",
        "|---|---:|---:|---:|",
    ]
    for suffix, (read, write) in costs.items():
        share = (read + write) / model
        lines.append(f"| {suffix} | {read:.0f} | {write:.0f} | {share:.1%} |")
    lines += ["", "| Short records in the file | peak memory, MiB |", "|---:|---:|"]
    lines += [f"| {count:,} | {peak:.0f} |" for count, peak in peaks.items()]
    table = "\n".join(lines) + "\n"
    write_text_atomically(Path(__file__).parent / "results" / f"{options.name}.md", table)
    sys.stdout.write(table)


if __name__ == "__main__":
    main()
