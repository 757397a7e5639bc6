"""How long it takes to the first answer and for a single article, and how much memory.

    python bench/footprint.py --source articles.parquet --distilbert

Each contender runs in processes of its own. Cold start is from the start of the imports to the
first article's probabilities; latency is that of articles given one by one, with everything warm;
peak memory is the process's largest resident set after that and a pass over all articles at once,
read from /proc (Linux only). Contenders take turns; figures are medians over processes. The table
goes to bench/results/NAME.json and .md.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import statistics
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

FOLDER = Path(__file__).parent
NAMES = [
    "studytag, int8",
    "studytag, fp32",
    "studytag, each article on all cores, int8",
    "studytag, each article on all cores, fp32",
    "OpenVINO int8, each article on all cores",
    "CTranslate2 int8, an article a core",
    "optimum int8, batch 8",
    "optimum fp32, batch 8",
    "transformers pipeline fp32, batch 8",
]


def measure_here(name: str, folders: dict[str, str], max_length: int, articles: Path) -> None:
    """In a fresh process: load one contender, answer, and write the figures as JSON."""
    started = time.perf_counter()
    from contenders import Setting, all_contenders
    from machine import peak_memory

    paths = {key: Path(value) for key, value in folders.items()}
    tag = all_contenders(Setting(**paths, max_length=max_length), [8])[name]()
    rows = json.loads(articles.read_text())
    tag(rows[:1])
    cold_start = time.perf_counter() - started
    tag(rows)
    latencies = []
    for row in rows:
        started = time.perf_counter()
        tag([row])
        latencies.append(1000 * (time.perf_counter() - started))
    latencies.sort()
    figures = {
        "cold_start_s": cold_start,
        "latency_p50_ms": latencies[len(latencies) // 2],
        "latency_p99_ms": latencies[int(0.99 * len(latencies))],
        "peak_mib": peak_memory(),
    }
    json.dump(figures, sys.stdout)


def main() -> None:
    """Measure and write the table."""
    from contenders import all_contenders
    from inference import prepare
    from machine import describe_machine

    from studytag.files import read_rows, write_json_atomically, write_text_atomically

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, required=True, help="table of real articles")
    parser.add_argument("--model", type=Path, default=Path("artifacts/model/best"))
    parser.add_argument("--distilbert", action="store_true", help="its shape, random weights")
    parser.add_argument("--articles", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="measure those whose names this finds")
    parser.add_argument("--name", default="footprint")
    options = parser.parse_args()
    rows = [
        {name: row[name] or "" for name in ("title", "abstract")}
        for row in read_rows(options.source)
    ]
    names = [name for name in NAMES if re.search(options.only, name)]
    measured: dict[str, list[dict]] = {name: [] for name in names}
    rows = random.Random(0).sample(rows, options.articles + 100)
    with TemporaryDirectory() as folder:
        setting = prepare(options.model, options.distilbert, rows[-100:], Path(folder))
        encoder = json.loads((setting.model / "config.json").read_text())
        articles = Path(folder, "articles.json")
        articles.write_text(json.dumps(rows[:-100]))
        for name in names:
            all_contenders(setting, [8])[name]()  # what a contender converts once is on disk then
        paths = ("model", "bundle", "optimum", "samples")
        folders = {key: str(getattr(setting, key)) for key in paths}
        call = f"{folders}, {setting.max_length}, Path({str(articles)!r})"
        for _ in range(options.rounds):
            for name in names:
                code = f"from footprint import *; measure_here({name!r}, {call})"
                done = subprocess.run(
                    [sys.executable, "-c", code], cwd=FOLDER, capture_output=True, check=True
                )
                measured[name].append(json.loads(done.stdout.splitlines()[-1]))
    figures = {
        name: {key: statistics.median(one[key] for one in runs) for key in runs[0]}
        for name, runs in measured.items()
    }
    shape = f"DistilBERT of {encoder['n_layers']} layers x {encoder['dim']}"
    lines = [
        f"{shape}, {options.articles} documents, medians of {options.rounds} processes, "
        f"{describe_machine()}, {date.today().isoformat()}.",
        "",
        "| Contender | cold start, s | one article, p50 ms | p99 ms | peak memory, MiB |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, figure in figures.items():
        lines.append(
            f"| {name} | {figure['cold_start_s']:.1f} | {figure['latency_p50_ms']:.0f} "
            f"| {figure['latency_p99_ms']:.0f} | {figure['peak_mib']:.0f} |"
        )
    table = "\n".join(lines) + "\n"
    results = FOLDER / "results"
    write_json_atomically(results / f"{options.name}.json", {"shape": shape, "runs": measured})
    write_text_atomically(results / f"{options.name}.md", table)
    sys.stdout.write(table)


if __name__ == "__main__":
    main()
