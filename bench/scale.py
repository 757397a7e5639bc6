"""What a training table's size costs: start-up and memory, tokenised first or out of the cache.

    python bench/scale.py --table data/processed/train.parquet

Tables of several sizes are made by repeating the table's articles under other pmids, in two shards.
Each is trained on for one step in a process of its own (Linux only): once with an empty cache, once
with the cache that left. Seconds run from the start of the process to its end, so that they hold
the imports, the tables, the encoder, the plan of batches, the step and the validation of 64
articles. Memory is the process's own (`RssAnon`, sampled); mapped files, which the kernel drops
when it needs room, are told apart. The table goes to bench/results/NAME.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from datetime import date
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory

from machine import describe_machine

from studytag.evaluation.split import read_label_set
from studytag.files import open_writer, read_rows, write_text_atomically

FOLDER = Path(__file__).parent
CHILD = """
import json, sys, threading, time
from pathlib import Path
peak = {"RssAnon": 0, "RssFile": 0}
def watch():
    while True:
        for line in Path("/proc/self/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in peak:
                peak[name] = max(peak[name], int(value.split()[0]) // 1024)
        time.sleep(0.05)
threading.Thread(target=watch, daemon=True).start()
from studytag.training.command import main
main(sys.argv[1:])
time.sleep(0.1)
print(json.dumps(peak))
"""


def write_shards(rows: list[dict], count: int, folder: Path) -> None:
    """A table of `count` articles in two files."""
    folder.mkdir()
    numbered = islice(enumerate(cycle(rows)), count)
    for name, size in (("a", count // 2), ("b", count - count // 2)):
        with open_writer(folder / f"{name}.parquet") as writer:
            for number, row in islice(numbered, size):
                writer.write(row | {"pmid": str(number)})


def train_one_step(folder: Path, table: Path, config: Path) -> dict[str, float]:
    """Seconds and peak memory (MiB) of a process that trains for one step."""
    flags = {
        "config": config,
        "train_file": table,
        "validation_file": folder / "val.parquet",
        "output_dir": folder / "model",
        "cache_dir": folder / "cache",
        "max_train_steps": 1,
        "max_length": 128,
        "overwrite_output_dir": "true",
    }
    arguments = [str(part) for name, value in flags.items() for part in (f"--{name}", value)]
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *arguments], stdout=subprocess.PIPE, check=True
    )
    seconds = time.perf_counter() - started
    return json.loads(done.stdout.splitlines()[-1]) | {"seconds": seconds}


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", type=Path, required=True, help="labelled articles to repeat")
    parser.add_argument("--config", type=Path, default=FOLDER.parent / "train/configs/minilm.yaml")
    parser.add_argument("--counts", type=int, nargs="+", default=[10_000, 30_000, 300_000])
    parser.add_argument("--name", default="scale")
    options = parser.parse_args()
    rows = list(read_rows(options.table))
    labels = list(read_label_set(options.table))
    lines = [
        f"All-MiniLM-L6-v2, texts of at most 128 tokens, {describe_machine()}, "
        f"{date.today().isoformat()}.",
        "",
        "| Articles | first time, s | from the cache, s | own memory, MiB: first | from the cache "
        "| mapped files, MiB |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    for count in options.counts:
        with TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "manifest.json").write_text(json.dumps({"labels": labels}))
            with open_writer(folder / "val.parquet") as writer:
                for row in rows[:64]:
                    writer.write(row)
            write_shards(rows, count, folder / "shards")
            first, again = (
                train_one_step(folder, folder / "shards", options.config) for _ in range(2)
            )
        lines.append(
            f"| {count:,} | {first['seconds']:.0f} | {again['seconds']:.1f} "
            f"| {first['RssAnon']} | {again['RssAnon']} | {again['RssFile']} |"
        )
    table = "\n".join(lines) + "\n"
    write_text_atomically(FOLDER / "results" / f"{options.name}.md", table)
    sys.stdout.write(table)


if __name__ == "__main__":
    main()
