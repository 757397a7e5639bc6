"""What does each choice of the training recipe give? Measured on sources that training never saw.

    python -m bench.ablation table.parquet --only "focal loss" --seeds 42 43

Every change trains once per seed on all folds but 0 and 1 of a table as `bench.quality grouped`
takes it, and predicts these two. Gains are paired, with intervals by bootstrap over sources.
Options after `--` go to every training: `-- --max-length 128` makes it short.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from bench.ablation.variants import BASELINE, HOOKS, OPTIONS
from bench.quality import protocols
from bench.quality.systems import Encoder, System
from studytag.errors import StudytagError


def main() -> None:
    """Train what is missing, and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("table", type=Path, help="with columns fold, and source or group")
    parser.add_argument("--config", default="minilm", help="the recipe")
    parser.add_argument("--only", nargs="+", choices=[*OPTIONS, *HOOKS], metavar="CHANGE")
    parser.add_argument("--seeds", type=int, nargs="+", default=[42])
    parser.add_argument("--work", type=Path, default=Path("artifacts/bench"))
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time")
    parser.add_argument("--name", default="ablation-grouped", help="of the results")
    parser.add_argument("further", nargs="*", help="after --: options of every training")
    options = parser.parse_args()
    systems: dict[tuple[str, int], tuple[System, str]] = {}
    for name in dict.fromkeys([BASELINE, *(options.only or [*OPTIONS, *HOOKS])]):
        for seed in options.seeds:
            changed = (*options.further, *OPTIONS.get(name, ()))
            encoder = Encoder(options.config, seed, options.work, changed)
            if name in HOOKS:
                encoder = replace(encoder, command=("-m", "bench.ablation.variants", name))
            systems[name, seed] = (encoder, " ".join([options.config, *encoder.options]))
    run = (options.table, options.name, systems, options.jobs, BASELINE)
    try:
        sys.stdout.write(protocols.grouped(*run, once=True))
    except StudytagError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
