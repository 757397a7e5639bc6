"""What tagging a large collection costs: records a second and core, and hours on many cores.

    python bench/cost.py --source articles.parquet --bundle artifacts/bundle

Each variant tags the same articles on one core, in turns. The rate is that of processor time, which
other work on a shared machine disturbs less than wall-clock time; articles do not depend on each
other, so cores add up as long as memory bandwidth lasts. The table goes to bench/results/NAME.md.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from datetime import date
from pathlib import Path

from studytag import Predictor
from studytag.files import read_rows, write_text_atomically
from studytag.hardware import processor_flags
from studytag.manifest import load_manifest

RESULTS = Path(__file__).parent / "results"
CORES = (1, 16, 64, 256)
PUBMED = 38_000_000


def seconds_of_processor(predictor: Predictor, articles: list[dict]) -> float:
    """Processor time of this process for the articles."""
    started = time.process_time()
    predictor.predict_proba(articles)
    return time.process_time() - started


def rates(bundle: str, articles: list[dict], rounds: int) -> dict[str, float]:
    """Records a second and core of each variant: medians over interleaved rounds."""
    variants = [name for name in load_manifest(bundle).variants if name != "pytorch"]
    predictors = {name: Predictor(bundle, variant=name, workers=1) for name in variants}
    for predictor in predictors.values():
        predictor.predict_proba(articles[:5])
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, predictor in predictors.items():
            seconds[name].append(seconds_of_processor(predictor, articles))
    return {name: len(articles) / statistics.median(taken) for name, taken in seconds.items()}


def processor() -> str:
    """The processor, as Linux tells, and the instructions that decide the speed of int8."""
    entries = dict(
        tuple(part.strip() for part in line.split(":", 1))
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if ":" in line
    )
    flags = processor_flags() or frozenset()
    known = [flag for flag in ("avx2", "avx512f", "avx512_vnni", "amx_int8") if flag in flags]
    name = entries.get("model name", "unknown processor")
    return (
        f"{name} family {entries.get('cpu family')} model {entries.get('model')} "
        f"({', '.join(known)})"
    )


def table(measured: dict[tuple[str, str], float], records: int) -> list[str]:
    """The lines of a Markdown table."""
    hours = [f"hours on {cores} cores" if cores > 1 else "core hours" for cores in CORES]
    header = ["Encoder", "Variant", "records/s and core", *hours]
    lines = [f"| {' | '.join(header)} |", f"|---|---|{'---:|' * (len(header) - 2)}"]
    for (encoder, variant), rate in measured.items():
        cost = [f"{records / rate / 3600 / cores:,.0f}" for cores in CORES]
        lines.append(f"| {' | '.join([encoder, variant, f'{rate:.1f}', *cost])} |")
    return lines


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--source", type=Path, required=True, help="table of real articles")
    parser.add_argument("--bundle", required=True, action="append", help="may be given repeatedly")
    parser.add_argument("--articles", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--records", type=int, default=PUBMED, help="size of the collection")
    parser.add_argument("--name", default="cost", help="of the table in bench/results")
    options = parser.parse_args()

    rows = [{name: row.get(name) for name in ("title", "abstract")} for row in read_rows(options.source)]
    articles = random.Random(0).sample(rows, min(options.articles, len(rows)))
    measured = {}
    for bundle in options.bundle:
        encoder = load_manifest(bundle).encoder
        for variant, rate in rates(bundle, articles, options.rounds).items():
            measured[encoder, variant] = rate
    words = statistics.mean(
        len(f"{row['title'] or ''} {row['abstract'] or ''}".split()) for row in articles
    )
    text = [
        f"{options.records:,} records like {len(articles)} articles of {words:.0f} words on average, "
        f"{options.rounds} interleaved rounds on one core of {processor()}, by processor time, "
        f"{date.today()}.",
        "",
        *table(measured, options.records),
    ]
    write_text_atomically(RESULTS / f"{options.name}.md", "\n".join([*text, ""]))
    sys.stdout.write("\n".join([*text, ""]))


if __name__ == "__main__":
    main()
